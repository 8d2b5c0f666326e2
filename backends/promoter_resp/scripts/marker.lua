-- Included by scripts that have `call`, `format`, `now` and the prefixes of the keys as locals.
-- Values of an id's dedup marker: "1" by a producer; "2" by a promotion; "3" by look.lua for an overdue job; "4" by a
-- producer that also wrote a keep key. With "1", an existing keep key belongs to an earlier job: a producer without
-- support for keep keys has removed that job and taken the id again.
local PLAIN, PROMOTED, OVERDUE, WITH_KEEP = '1', '2', '3', '4'
local GRACE_MS = 3600000 -- how long a marker outlives the due time, so that a late repeat is a no-op
local LATE_MS = 3540000 -- a later job's marker may have expired, which happens an hour after the due time
local SPARE_MS = 1000 -- tolerance for times to live that are rounded up to seconds
local TRACE_S = 86400 -- trace contexts expire, because not every promoter deletes them
local UNIQUE_S = 2592000 -- how long the bare marker prefix outlives the unique jobs
local KEEP_S = 2592000 -- how long a keep key outlives the due time at least, because not every promoter deletes it

-- Sets a key that outlives the jobs it stands for. It is rewritten only after half of the spare time.
local function flag(key, ms, spare_s)
  if call('PTTL', key) < ms + spare_s * 500 then
    call('SET', key, '1', 'PX', format('%.0f', ms + spare_s * 1000))
  end
end

-- Takes the id of a waiting job. `keep`: how long it stays taken after the promotion, in ms; nil for the default.
local function take(id, due, keep)
  local left = due - now
  if left < -LATE_MS then left = 0 end
  local value = keep and WITH_KEEP or PLAIN
  call('SET', marker_prefix .. id, value, 'PX', format('%.0f', left + math.max(keep or 0, GRACE_MS)))
  left = math.max(left, 0)
  flag(marker_prefix, left, UNIQUE_S) -- shows a late promotion that markers exist
  if keep then
    local spare = math.max(KEEP_S, keep / 1000)
    call('SET', keep_prefix .. id, format('%.0f', keep), 'PX', format('%.0f', left + spare * 1000))
    flag(keep_prefix, left + spare * 1000, KEEP_S) -- shows any promotion that keep keys exist
  end
end

-- Stores the trace context of a waiting job.
local function put_trace(id, due, trace)
  local left = math.max(due - now, 0) + TRACE_S * 1000
  call('SET', trace_prefix .. id, trace, 'PX', format('%.0f', left))
  flag(trace_prefix, left, TRACE_S) -- shows a promotion that trace contexts exist
end

local function keep_of(id)
  local keep = call('GET', keep_prefix .. id)
  return keep and call('GET', marker_prefix .. id) ~= PLAIN and tonumber(keep) or nil
end

-- Returns what an id's marker shows about a job without an index. `left` is the marker's PTTL.
local function told(id, left)
  if left == -2 then return 'nothing' end
  if left < 0 then return 'lasting' end
  local value = call('GET', marker_prefix .. id)
  if value == PROMOTED then return 'promoted' end
  if value == OVERDUE then return 'overdue' end -- or promoted since
  local after = left - math.max(keep_of(id) or 0, GRACE_MS)
  return after <= 0 and 'promoted' or after <= SPARE_MS and 'just due' or 'not due yet'
end
