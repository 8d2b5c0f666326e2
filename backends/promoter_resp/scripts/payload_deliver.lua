-- Rendered into change.lua. Adds one job, whose envelope begins at `at`, as promote.lua does.
-- include payload_of

local function can_deliver(member, at)
  return payload_of(member, at) ~= nil
end

local function deliver(member, at, name, trace, state)
  local id_from, id_end, from, last = payload_of(member, at)
  local id = sub(member, id_from, id_end)
-- layout add_or_raise
end
