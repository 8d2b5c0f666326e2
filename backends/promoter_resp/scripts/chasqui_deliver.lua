-- Rendered into change.lua. Adds one job, whose envelope begins at `at`, as promote.lua does.
local function can_deliver()
  return true
end

local function deliver(member, at, name, trace, state)
  if trace then
    call('XADD', stream, '*', 'd', sub(member, at), unpack(trace_fields(name, trace, state)))
  elseif name then
    call('XADD', stream, '*', 'd', sub(member, at), 'n', name)
  else
    call('XADD', stream, '*', 'd', sub(member, at))
  end
end
