-- Looks up waiting jobs. Read-only.
-- KEYS: delayed
-- ARGV: prefixes of the cancel index, the dedup markers, the trace contexts and the keep keys; then for each job: its id,
--       how to find it ("?" by the index; "#" by its member, otherwise by the index), its member or ""
-- Reply: for each job {score, member, unique (1/0), keep in ms or -1, trace context or ""}; 0 if it is not waiting; 2 if
--        look.lua must search for it. With large members, the reply ends early, after at least one job.
local call, byte, sub, format = redis.call, string.byte, string.sub, string.format
local delayed = KEYS[1]
local index_prefix, marker_prefix, trace_prefix, keep_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local STEP_BYTES = 1024 * 1024
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- include id_of
-- include marker
-- include waiting
-- include details

local reply, bytes = {}, 0
for i = 5, #ARGV, 3 do
  local id, how, member, score = ARGV[i], ARGV[i + 1], ARGV[i + 2], nil
  if how == '#' then
    score = call('ZSCORE', delayed, member)
  end
  if not score then -- by now another job may be in its place, with an index
    member, score = by_index(id)
  end
  if score then
    local unique, keep, trace = details_of(id ~= '' and id or nil, member, score)
    reply[#reply + 1] = {score, member, unique, keep, trace}
    bytes = bytes + #member
    if bytes >= STEP_BYTES then break end
  else
    reply[#reply + 1] = how == '?' and may_wait(id) and UNSURE or NOT_FOUND
  end
end
return reply
