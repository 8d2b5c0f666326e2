-- Included after id_of.lua and marker.lua, by scripts that have `call`, `byte`, `sub`, `delayed`, `now` and the prefixes of
-- the keys as locals.
local NOT_FOUND, UNSURE, ALREADY_PROMOTED, UNSURE_DUE = 0, 2, 3, 8
local LOST_MS = 5000 -- a job may still wait this long after its due time although another promoter has deleted its index
local MAX_DUE_MS = 253402300799999 -- the end of the year 9999

local due_now
local function some_due()
  if not due_now then due_now = call('ZCOUNT', delayed, '-inf', format('%.0f', now)) end
  return due_now > 0
end

-- Returns where the envelope of a member begins; nil if it is malformed, by the rules of promote.lua.
local function envelope_at(member)
  local n1, n2, n3, n4 = byte(member, 1, 4)
  local at = n4 and 5 + n1 + 256 * (n2 + 256 * (n3 + 256 * n4))
  return at and at <= #member and at or nil
end

local function id_in(member)
  local at = envelope_at(member)
  local id = at and id_of(member, at)
  return id ~= '' and id or nil -- an empty id would yield the bare prefixes
end

-- Returns the due time of a score, limited to valid times.
local function due_of(score)
  if score == '-inf' then return 0 end
  return math.min(math.max(tonumber(score) or MAX_DUE_MS, 0), MAX_DUE_MS)
end

-- Returns the member and the score by the id's index; nothing if the job is not waiting.
local function by_index(id)
  local member = id ~= '' and call('GET', index_prefix .. id)
  local score = member and call('ZSCORE', delayed, member)
  if score then return member, score end
end

-- Returns whether a waiting job has taken its id, rather than only sharing it with a promoted one. `index` is the index's
-- member, `keep` the value of the id's keep key.
local function is_unique(id, member, due, index, keep)
  if index and index ~= member and call('ZSCORE', delayed, index) then return false end -- that job has taken it
  local marker = marker_prefix .. id
  local left, late = call('PTTL', marker), due < now - LATE_MS
  if left == -2 then -- it expired before the promotion, was evicted, or never existed
    return index == member and (keep ~= nil or late and call('EXISTS', marker_prefix) == 1)
  elseif left == -1 then
    return index == member
  elseif call('GET', marker) == PROMOTED then
    return false
  elseif index == member then
    local ends = call('PTTL', index_prefix .. id) -- another producer's index expires together with its marker
    if late or ends > 0 and math.abs(ends - left) <= 2 * SPARE_MS then return true end
  end
  return math.abs(left - (due - now) - math.max(keep or 0, GRACE_MS)) <= 2 * SPARE_MS
end

-- Returns whether a job that has taken its id may wait without an index: ChasquiMQ's promoter deletes a job's index shortly
-- after the promotion, even if another job with the same id was added meanwhile. UNSURE; UNSURE_DUE if it would be due.
local function lost_index(id)
  local marker = marker_prefix .. id
  local left = call('PTTL', marker)
  local value = left > 0 and call('GET', marker)
  if value ~= PLAIN and value ~= WITH_KEEP then return nil end
  local after = left - math.max(keep_of(id) or 0, GRACE_MS)
  if after > 0 then return call('ZCARD', delayed) > 0 and UNSURE end
  if after > -LOST_MS then return some_due() and UNSURE_DUE end
end

-- Returns whether a job without an index may be in the set. A marker that expires within the hour shows that it was due.
local function may_wait(id)
  if call('ZCARD', delayed) == 0 then return false end
  local says = id ~= '' and told(id, call('PTTL', marker_prefix .. id))
  if says ~= 'promoted' and says ~= 'overdue' then return true end
  return some_due()
end
