-- Rendered into promote.lua. Adds the payload of `member`, of `size` bytes, to the target. Sets `added`, `id`, `name`,
-- `dead` and `plain`; for a job with a trace context also `trace`, `state` and `context`.
local from, last, id_from, id_end, at
local b1, b2, b3, b4, array, tag, short = byte(member, 1, 7)
if short and b1 + b2 + b3 + b4 == 0 and array > 0x90 and array < 0xa0 then -- nearly every job: no name, an id of up to 31
  at = 5
  if tag == 0xd9 and short < 32 then
    plain, id_from, id_end = true, 8, short + 7
  elseif tag > 0x9f and tag < 0xc0 then
    id_from, id_end = 7, tag - 0x9a
  end
  if id_end then
    local kind, n1, n2 = byte(member, id_end + 1, id_end + 3)
    if kind == 0xc4 then
      from, last = id_end + 3, id_end + 2 + n1
    elseif kind == 0xc5 and n2 then
      from, last = id_end + 4, id_end + 3 + n1 * 256 + n2
    end
    if from and last >= size then from = nil end
  end
end
if not from then -- any other job, or none
  at = b4 and 5 + b1 + 256 * (b2 + 256 * (b3 + 256 * b4))
  if not at or at > size then
    dead = not at and 'shorter than its header' or at == size + 1 and 'empty payload' or 'the name runs past the end'
  else
    id_from, id_end, from, last = payload_of(member, at)
    plain = from and byte(member, at + 1) == 0xd9 and id_end - id_from < 31
    if not from then dead = 'no envelope with a payload of bytes' end
  end
end
if dead then
  added = pcall('XADD', dlq, '*', 'source_id', 'delayed', 'reason', 'malformed', 'detail', dead, 'd', member)
else
  if want_ids or not plain then id = sub(member, id_from, id_end) end
  if at > 5 then name = sub(member, 5, at - 1) end
  if trace_of then trace, state, context = trace_of(id) end
-- layout add
end
