-- Included by scripts that have `sub` and the two names as locals: without trace contexts, no function is created.
-- A trace context is stored as its traceparent; a tracestate follows after a line feed.
trace_parts = function(kept)
  local at = string.find(kept, '\n', 1, true)
  if at then return sub(kept, 1, at - 1), sub(kept, at + 1) end
  return kept, nil
end

-- Returns the fields that a name and a trace context add to an entry.
trace_fields = function(name, trace, state)
  local fields = {}
  if name then fields[1], fields[2] = 'n', name end
  fields[#fields + 1], fields[#fields + 2] = 'traceparent', trace
  if state then fields[#fields + 1], fields[#fields + 2] = 'tracestate', state end
  return fields
end
