-- Included by promote.lua. Returns for an id: the traceparent, the tracestate, and both as they are stored.
-- Client tracking does not count GETEX as a read, so the server does not track keys that no client caches. The key stays
-- until its job is in the target. If GETEX is unavailable or not permitted, GET is used. Errors are ignored.
local get = 'GETEX'
trace_of = function(id)
  local found = pcall(get, trace_prefix .. id)
  if found and found.err and get == 'GETEX' then
    get = 'GET'
    found = pcall(get, trace_prefix .. id)
  end
  if not found or found.err then return nil end
  local trace, state = trace_parts(found)
  return trace, state, found
end
