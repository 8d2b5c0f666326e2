-- Included after waiting.lua.
-- Returns for a waiting job: 1 if it has taken its id, otherwise 0; how long the id stays taken after the promotion, in ms
-- (-1: the default); its trace context or "".
local function details_of(id, member, score)
  if not id then return 0, -1, '' end
  local index, keep = call('GET', index_prefix .. id), keep_of(id)
  local unique = is_unique(id, member, due_of(score), index, keep)
  local trace = (index == member or not index) and call('GET', trace_prefix .. id)
  return unique and 1 or 0, unique and keep or -1, trace or ''
end
