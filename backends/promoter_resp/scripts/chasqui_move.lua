-- Rendered into promote.lua. Adds `member`, of `size` bytes, to the stream in ChasquiMQ's format. Sets `added`, `id`,
-- `name`, `dead` and `plain`; for a job with a trace context also `trace`, `state` and `context`.
if trace_of then
  local b1, b2, b3, b4 = byte(member, 1, 4)
  local start = b4 and 5 + b1 + 256 * (b2 + 256 * (b3 + 256 * b4))
  id = start and start <= size and id_of(member, start) or nil
  if id then trace, state, context = trace_of(id) end
  if trace then
    if start > 5 then name = sub(member, 5, start - 1) end
    added = pcall('XADD', stream, '*', 'd', sub(member, start), unpack(trace_fields(name, trace, state)))
  end
end
if trace then -- it is there
  plain = false
elseif head and sub(member, 1, head_size) == head then -- the name of the two before, and an id as long as theirs
  name, plain = last_name, head_plain
  added = pcall('XADD', stream, '*', 'd', sub(member, name_end), 'n', name)
  id = (want_ids or not plain) and id_end < size and sub(member, head_size + 1, id_end) or nil
else
  local b1, b2, b3, b4, array, tag = byte(member, 1, 6)
  head = nil
  if tag and b1 + b2 + b3 + b4 == 0 then -- nearly every job: no name, an array of up to 15, an id of up to 31 bytes
    added, last_name = pcall('XADD', stream, '*', 'd', sub(member, 5)), nil
    if array < 0x91 or array > 0x9f then
      id = id_of(member, 5)
    elseif tag >= 0xa0 and tag <= 0xbf then
      id = tag < size + 0x9a and sub(member, 7, tag - 0x9a) or nil -- tag - 0xa0 bytes from the 7th, and more behind
    else
      local short = tag == 0xd9 and byte(member, 7)
      plain = short and short < 32
      if not plain then
        id = id_of(member, 5)
      elseif want_ids and short + 7 < size then
        id = sub(member, 8, short + 7)
      end
    end
  else
    local start = b4 and 5 + b1 + 256 * (b2 + 256 * (b3 + 256 * b4))
    if not start or start > size then
      dead = not start and 'shorter than its header'
        or start == size + 1 and 'empty payload' or 'the name runs past the end'
      added = pcall('XADD', dlq, '*', 'source_id', 'delayed', 'reason', 'malformed', 'detail', dead, 'd', member)
    elseif start == 5 then
      added, id = pcall('XADD', stream, '*', 'd', sub(member, 5)), id_of(member, 5)
    else
      name = sub(member, 5, start - 1)
      added = pcall('XADD', stream, '*', 'd', sub(member, start), 'n', name)
      local from, last, short
      array, tag, short = byte(member, start, start + 2)
      if not tag or array < 0x91 or array > 0x9f then
        id = id_of(member, start)
      elseif tag >= 0xa0 and tag <= 0xbf then
        from, last = start + 2, start + tag - 0x9f
      elseif tag == 0xd9 and short and short < 32 then
        from, last, plain = start + 3, start + 2 + short, true
      else
        id = id_of(member, start)
      end
      if from then
        id = last < size and sub(member, from, last) or nil
        if name == last_name and last == last_end and start < 512 then
          head, head_size, head_plain, name_end, id_end = sub(member, 1, from - 1), from - 1, plain, start, last
        end
      end
      last_name, last_end = name, last
    end
  end
end
