"""RQ's scheduled jobs: they go to the queue's list as RQ's scheduler puts them there, under its own lock.

RQ's scheduler reads the set and writes in two steps, so only its lock keeps it from duplicating what a promoter moves.
A job with a rate limit waits for a slot, and starts when it gets one, as in RQ.
"""

from __future__ import annotations

from promoter_core.spi import in_place
from promoter_layouts import options

DEFAULT_TIMEOUT_S = 180  # the default time-out of a queue, for a job without one

SETUP = """
local days = floor(time[1] / 86400)
local z = days + 719468 -- since 1 March of the year 0
local era = floor(z / 146097)
local doe = z - era * 146097
local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
local mp = floor((5 * doy + 2) / 153)
local month = mp < 10 and mp + 3 or mp - 9
local year = yoe + era * 400 + (month <= 2 and 1 or 0)
local second = time[1] - days * 86400
local stamp = format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, doy - floor((153 * mp + 2) / 5) + 1,
  floor(second / 3600), floor(second / 60) % 60, second % 60, time[2])
local origin = sub(target, #key2 + 1)
local FIELDS = {'status', 'ttl', 'timeout', 'enqueue_at_front', 'enqueue_at_front_on_retry', 'ended_at',
  'rate_limit_key', 'rate_limit_concurrency'}
"""

BODY = """
    local hash = key1 .. member
    local job = pcall('HMGET', hash, unpack(FIELDS))
    if job.err and find(job.err, 'WRONGTYPE', 1, true) then
      dead = 'no job of RQ: ' .. job.err
    elseif job.err then
      added = job
    elseif not job[1] then
      gone = true -- it has expired, or was deleted
    else
      local limited = job[7] and job[7] ~= '' and tonumber(job[8])
      local front = job[4] == '1' or (job[5] == '1' and job[6] and job[6] ~= '')
      if limited then
        local waiting, allowed = key3 .. job[7] .. ':rate_limited', key3 .. job[7] .. ':allowed'
        added = pcall('ZADD', waiting, time[1], member)
        if type(added) == 'number' then
          pcall('SADD', key4, job[7])
          pcall('HSET', key3 .. job[7], 'concurrency', job[8])
          pcall('HSET', hash, 'status', 'rate_limited', 'origin', origin, 'timeout', job[3] or TIMEOUT)
          if front then pcall('HSET', hash, 'enqueue_at_front', '1') end
          while (tonumber(pcall('ZCARD', allowed)) or limited) < limited do
            local first = pcall('ZPOPMIN', waiting)
            if not first[1] then break end
            local other = pcall('HMGET', key1 .. first[1], 'origin', 'status', 'enqueue_at_front')
            if not other.err and other[1] and other[2] == 'rate_limited' then
              pcall('ZADD', allowed, time[1], first[1])
              pcall(other[3] == '1' and 'LPUSH' or 'RPUSH', key2 .. other[1], first[1])
              pcall('HSET', key1 .. first[1], 'status', 'queued', 'enqueued_at', stamp)
            end
          end
        end
      else
        added = pcall(front and 'LPUSH' or 'RPUSH', target, member)
        if type(added) == 'number' then
          pcall('HSET', hash, 'status', 'queued', 'enqueued_at', stamp, 'origin', origin)
          if not job[3] then pcall('HSET', hash, 'timeout', TIMEOUT) end
        end
      end
      local ttl = tonumber(job[2])
      if type(added) == 'number' and ttl and ttl > 0 then
        pcall('EXPIRE', hash, ttl)
        pcall('EXPIRE', hash .. ':dependents', ttl)
        pcall('EXPIRE', hash .. ':dependencies', ttl)
      end
    end
"""

# Workers store their version.
SEEN = """
local found = {}
for _, worker in ipairs(call('SMEMBERS', WORKERS)) do
  local version = call('HGET', worker, 'version')
  if type(version) == 'string' then found[#found + 1] = version end
end
return found
"""


def rq(prefix: str = "rq", early: str = "false") -> in_place.InPlace:
    """`prefix` is RQ_KEY_PREFIX. `early=true` moves a job at its score, whose fraction of a second RQ has truncated."""
    before = options.prefix("rq", prefix)
    return in_place.InPlace(
        name="rq",
        framework="RQ",
        source=f"{before}:scheduled:{{queue}}",
        their_lock=f"{before}:scheduler-lock:{{queue}}",
        beside=in_place.Beside.SHARED_LOCK,
        score=in_place.Score.S,
        whole=not options.flag("rq", "early", early),
        moves=in_place.Lua(
            setup=SETUP,
            body=BODY.replace("TIMEOUT", f"'{DEFAULT_TIMEOUT_S}'"),
            target=f"{before}:queue:{{queue}}",
            keys=(f"{before}:job:", f"{before}:queue:", f"{before}:rl:", f"{before}:rl-keys"),
        ),
        writes=(
            in_place.Writes(key=f"{before}:queue:*", commands=("llen", "lpush", "rpush")),
            in_place.Writes(key=f"{before}:job:*", commands=("hmget", "hset", "expire")),
            in_place.Writes(key=f"{before}:rl:*", commands=("hset", "zadd", "zcard", "zpopmin")),
            in_place.Writes(key=f"{before}:rl-keys", commands=("sadd",)),
        ),
        seen=SEEN.replace("WORKERS", options.lua(f"{before}:workers")),
        tested=("rq 3.0",),
        versions=("3.0", "3.1"),
        alike="*:scheduled:*",
    )
