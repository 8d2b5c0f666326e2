-- Changes waiting jobs. Each change is atomic, also with respect to promotion.
-- KEYS: delayed; to run a job now also: target, events
-- ARGV: prefixes of the cancel index, the dedup markers, the trace contexts and the keep keys; channel for announcements;
--       then for each change: its kind, the id, how to find the job, its member or "", and arguments by kind:
--       move: when ("+ms" from the server's clock, or absolute ms)
--       run: max length of the target, write an event (1/0), max events length
--       remove: none
--       replace: flags (1 unique, 2 index, 4 keep the data, 8 keep the name, 16 keep the due time), when, for how many ms
--         the id stays taken after the promotion ("": the default), the new member, its trace context or ""
--       How to find the job: "?" by the index; "-" by the index, without a search; "=" by its member; "#" by its member,
--       otherwise by the index; "!" after an unsuccessful search of the whole set; "~" after one of a part, or without any
-- Reply: {1 if the set has a new head, otherwise 0, outcome of each change, …}. The constants below are the outcomes.
--        UNSURE: nothing was done, look.lua must search for the job first; UNSURE_DUE: only among the first jobs. With
--        large members, the reply ends early, after at least one change, and the remaining changes are not done.
-- While a slot migrates, a server refuses access to a key that is missing on it. So each change accesses all of its keys
-- before its first write. Writes that may be refused come first, and a job leaves the set only after its replacement is in.
local STEP_BYTES = 1024 * 1024
local try = pcall -- the function of Lua
local REMOVED, CREATED, MOVED, RUN, REPLACED = 1, 4, 5, 6, 7
local call, pcall, byte, sub, format = redis.call, redis.pcall, string.byte, string.sub, string.format
local delayed, stream, events = KEYS[1], KEYS[2], KEYS[3]
local index_prefix, marker_prefix, trace_prefix, keep_prefix, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local trace_parts, trace_fields
-- include trace_parts
-- include permission
-- include id_of
-- include marker
-- include waiting
-- layout target
-- layout deliver

local function due_at(when)
  local due = tonumber(when)
  if byte(when, 1) == 43 then -- '+'
    due = now + tonumber(sub(when, 2))
  end
  return math.min(math.max(due, now), MAX_DUE_MS)
end

local function touch(id)
  if id then
    call('EXISTS', index_prefix .. id, marker_prefix .. id, trace_prefix .. id, keep_prefix .. id)
  end
  call('EXISTS', marker_prefix, trace_prefix, keep_prefix)
end

-- Returns the outcome for an id without a waiting job, or with another job than the requested one.
local function missing(id, how)
  if by_index(id) or id == '' then return NOT_FOUND end
  local says = told(id, call('PTTL', marker_prefix .. id))
  if says == 'promoted' or says == 'just due' or says == 'lasting' or says == 'overdue' and how ~= '~' then return ALREADY_PROMOTED end
  return NOT_FOUND
end

-- Returns the keys that a waiting job has: the index's member, the value of the keep key, and whether it has taken the id.
local function keys_of(id, member, score)
  if not id then return nil, nil, false end
  local index, keep = call('GET', index_prefix .. id), keep_of(id)
  return index, keep, is_unique(id, member, due_of(score), index, keep)
end

local function move(id, member, score, due)
  need('SET', index_prefix, '')
  touch(id)
  local index, keep, unique = keys_of(id, member, score)
  local trace = id and (index == member or not index) and call('GET', trace_prefix .. id)
  call('ZADD', delayed, format('%.0f', due), member)
  if not id then return end
  if index == member and call('PTTL', index_prefix .. id) > 0 then
    call('SET', index_prefix .. id, member) -- another producer's index, which would expire too early
  end
  if unique then take(id, due, keep) end
  if trace then put_trace(id, due, trace) end
end

-- The bare marker prefix is a key that exists while unique jobs wait. The bare prefixes of trace contexts and keep keys
-- stay, because former jobs may have left such keys, which a new job with the same id must not inherit.
local function forget_prefix()
  if pcall('ZCARD', delayed) == 0 then
    pcall('DEL', marker_prefix)
  end
end

local function remove(id, member, score)
  need('ZREM', delayed, '')
  need('DEL', index_prefix)
  local index
  if id then
    call('EXISTS', index_prefix .. id, marker_prefix .. id, trace_prefix .. id, keep_prefix .. id)
    index = call('GET', index_prefix .. id)
  end
  if id and index and index ~= member and call('ZSCORE', delayed, index) then -- another job with this id is waiting
    call('ZREM', delayed, member) -- the id's keys belong to that job
  else
    call('ZREM', delayed, member)
    if id then call('DEL', index_prefix .. id, marker_prefix .. id, trace_prefix .. id, keep_prefix .. id) end
    forget_prefix()
  end
end

-- Promotes one job, as promote.lua does.
local function run(id, member, score, at, write_event, events_cap)
  need('ZREM', delayed, '')
  need('DEL', index_prefix)
  need('SET', index_prefix, '')
  touch(id)
  local index, keep, unique = keys_of(id, member, score)
  local name = at > 5 and sub(member, 5, at - 1)
  local context, trace, state = id and (index == member or not index) and call('GET', trace_prefix .. id), nil, nil
  if context then trace, state = trace_parts(context) end
  deliver(member, at, name, trace, state)
  call('ZREM', delayed, member)
  if id then
    if index == member or not index then
      call('DEL', index_prefix .. id, trace_prefix .. id)
    end
    if unique then
      if keep == 0 then
        call('DEL', marker_prefix .. id)
      else
        call('SET', marker_prefix .. id, PROMOTED, 'PX', format('%.0f', keep or GRACE_MS))
      end
      call('DEL', keep_prefix .. id)
    end
    if write_event then
      local now_text = format('%.0f', now)
      if trace then
        pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text, unpack(trace_fields(name, trace, state)))
      elseif name then
        pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text, 'n', name)
      else
        pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text)
      end
      pcall('XTRIM', events, 'MAXLEN', '~', events_cap)
    end
  end
  forget_prefix()
end

-- Adds a job, replacing `old` if given.
local function put(id, old, score, due, member, flags, keep, trace)
  need('ZREM', delayed, '')
  need('DEL', index_prefix)
  need('SET', index_prefix, '')
  need('PTTL', index_prefix)
  touch(id)
  call('ZADD', delayed, score, member)
  if old and old ~= member then call('ZREM', delayed, old) end
  local unique = flags % 2 == 1
  if unique or flags % 4 >= 2 then
    call('SET', index_prefix .. id, member)
  else
    call('DEL', index_prefix .. id)
  end
  if trace ~= '' then
    put_trace(id, due, trace)
  else
    call('DEL', trace_prefix .. id)
  end
  if not (unique and keep) then call('DEL', keep_prefix .. id) end
  if unique then
    take(id, due, keep)
  elseif old then
    call('DEL', marker_prefix .. id)
  end
end

local function replace(id, old, score, flags, when, keep, member, trace)
  local due = score and flags >= 16 and due_of(score) or due_at(when)
  if old and flags % 8 >= 4 then
    if flags < 16 then move(id, old, score, due) end
    return MOVED
  end
  if old and flags % 16 >= 8 then
    local at, new_at = envelope_at(old), envelope_at(member)
    member = sub(old, 1, at - 1) .. sub(member, new_at)
  end
  put(id, old, old and flags >= 16 and score or format('%.0f', due), due, member, flags, keep, trace)
  return old and REPLACED or CREATED
end

local first = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local reply, deferred, bytes = {0}, {}, 0
local function carry_out()
  local i = 6
  while i <= #ARGV and bytes < STEP_BYTES do
    local kind, id, how, member, score = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], nil
    local a, b, c, d, e = ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7], ARGV[i + 8]
    i = i + (kind == 'remove' and 4 or kind == 'move' and 5 or kind == 'run' and 7 or 9)
    if how == '=' or how == '#' then
      score = call('ZSCORE', delayed, member)
    end
    if not score and how ~= '=' then
      member, score = by_index(id)
    end
    if score then bytes = bytes + #member end
    local outcome
    local look = deferred[id] -- an earlier change of this job was deferred
    if not look and not score then
      look = how == '?' and may_wait(id) and UNSURE or how == '-' and lost_index(id)
    end
    if look then
      outcome, deferred[id] = look, look
    elseif kind == 'replace' then
      local flags = tonumber(a)
      if score or flags < 16 then
        outcome = replace(id, score and member, score, flags, b, tonumber(c), d, e)
      else
        outcome = missing(id, how)
      end
    elseif not score then
      outcome = missing(id, how)
      if kind == 'remove' and how ~= '=' and id ~= '' then
        pcall('DEL', index_prefix .. id) -- another client removed the job and left its index
      end
    else
      local its_id = id_in(member)
      if kind == 'move' then
        move(its_id, member, score, due_at(a))
        outcome = MOVED
      elseif kind == 'remove' then
        remove(its_id, member, score)
        outcome = REMOVED
      else
        local at = envelope_at(member)
        if at and can_deliver(member, at) and call(LENGTH, stream) < tonumber(a) then
          run(its_id, member, score, at, b == '1', c)
          outcome = RUN
        else
          if due_of(score) > now then move(its_id, member, score, now) end
          outcome = MOVED
        end
      end
    end
    reply[#reply + 1] = outcome
  end
end
local done, failure = try(carry_out)

local last = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
if first[1] ~= last[1] or first[2] ~= last[2] then
  reply[1] = 1
  pcall('PUBLISH', channel, delayed) -- optional: without permission to publish, the promoter polls
end
if not done then error(failure, 0) end -- earlier changes remain, so the head was announced first
return reply
