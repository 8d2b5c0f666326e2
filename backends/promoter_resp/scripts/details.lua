-- Included by scripts that have waiting.lua before it.
-- Of a waiting job: 1 when it has taken its id and 0 when not, for how long after the promotion (-1: the usual time),
-- and its trace context or "".
local function details_of(id, member, score)
  if not id then return 0, -1, '' end
  local index, keep = call('GET', index_prefix .. id), keep_of(id)
  local unique = is_unique(id, member, due_of(score), index, keep)
  local trace = (index == member or not index) and call('GET', trace_prefix .. id)
  return unique and 1 or 0, unique and keep or -1, trace or ''
end
