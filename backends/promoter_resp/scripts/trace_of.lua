-- Included by promote.lua: of an id the traceparent, the tracestate, and both as they are kept.
-- GETEX is no read to client tracking: the server need not remember keys that no client keeps. The key stays until its job
-- is in the target. Where GETEX is not there or not permitted, GET does it. What cannot be read is let go.
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
