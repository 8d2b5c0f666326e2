-- Included by scripts that have `call`, `format`, `now` and the prefixes of the keys as locals.
-- The dedup marker of an id: "1" from a producer, "2" since a promotion, "3" from look.lua for a job that is overdue, "4"
-- from a producer that wrote a keep key with it. So a "1" says that a keep key is of a job before: another producer, which
-- knows nothing of keep keys, removed that and took the id anew.
local PLAIN, PROMOTED, OVERDUE, WITH_KEEP = '1', '2', '3', '4'
local GRACE_MS = 3600000 -- how long a marker outlives the due time, so that a late repeat is a no-op
local LATE_MS = 3540000 -- jobs that are later than this may have lost a marker that ends an hour after the due time
local SPARE_MS = 1000 -- times to live have been rounded up to seconds
local TRACE_S = 86400 -- trace contexts end, for not every promoter deletes them
local UNIQUE_S = 2592000 -- how long the bare marker prefix says that there are unique jobs
local KEEP_S = 2592000 -- how long a job's keep key outlives the due time at least, for not every promoter deletes it

-- A key that outlives the jobs that it stands for, written anew only when half of the time to spare is over.
local function flag(key, ms, spare_s)
  if call('PTTL', key) < ms + spare_s * 500 then
    call('SET', key, '1', 'PX', format('%.0f', ms + spare_s * 1000))
  end
end

-- Takes the id of a job that waits. `keep`: for how long after the promotion, in ms, where that is not the usual.
local function take(id, due, keep)
  local left = due - now
  if left < -LATE_MS then left = 0 end
  local value = keep and WITH_KEEP or PLAIN
  call('SET', marker_prefix .. id, value, 'PX', format('%.0f', left + math.max(keep or 0, GRACE_MS)))
  left = math.max(left, 0)
  flag(marker_prefix, left, UNIQUE_S) -- by this key a late promotion sees that there are any
  if keep then
    local spare = math.max(KEEP_S, keep / 1000)
    call('SET', keep_prefix .. id, format('%.0f', keep), 'PX', format('%.0f', left + spare * 1000))
    flag(keep_prefix, left + spare * 1000, KEEP_S) -- and by this one any promotion
  end
end

-- The trace context of a job that waits.
local function put_trace(id, due, trace)
  local left = math.max(due - now, 0) + TRACE_S * 1000
  call('SET', trace_prefix .. id, trace, 'PX', format('%.0f', left))
  flag(trace_prefix, left, TRACE_S) -- by this key a promotion sees that there are any
end

local function keep_of(id)
  local keep = call('GET', keep_prefix .. id)
  return keep and call('GET', marker_prefix .. id) ~= PLAIN and tonumber(keep) or nil
end

-- What the marker of an id says of a job that no index finds. `left` is its PTTL.
local function told(id, left)
  if left == -2 then return 'nothing' end
  if left < 0 then return 'lasting' end
  local value = call('GET', marker_prefix .. id)
  if value == PROMOTED then return 'promoted' end
  if value == OVERDUE then return 'overdue' end -- or promoted since
  local after = left - math.max(keep_of(id) or 0, GRACE_MS)
  return after <= 0 and 'promoted' or after <= SPARE_MS and 'just due' or 'not due yet'
end
