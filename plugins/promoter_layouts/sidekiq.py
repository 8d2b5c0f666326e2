"""Sidekiq's sets `schedule` and `retry`: jobs go to the lists of their queues as Sidekiq's poller pushes them.

A member is a job in JSON, and names its queue. `enqueued_at` becomes the time of the move, in the unit of the job's
`created_at`: seconds before Sidekiq 8, milliseconds since. The rest stays byte for byte, because JSON that Lua decodes
and encodes again loses empty arrays and long numbers.
"""

from __future__ import annotations

from promoter_core.spi import in_place
from promoter_layouts import options

SETUP = r"""
local decode, known, lengths = cjson.decode, {}, {}
local seconds = format('%.0f.%06d', time[1], time[2])

-- Replaces the `enqueued_at` of a job: the one at depth 1, because its arguments may contain another.
local function with_stamp(text, stamp)
  local at, depth = 1, 0
  while true do
    local from = find(text, '[%[%]{}"]', at)
    if not from then return text end
    local kind, last = sub(text, from, from), from
    if kind == '"' then
      repeat
        last = find(text, '["\\]', last + 1)
        if not last then return text end
        local escapes = sub(text, last, last) ~= '"'
        if escapes then last = last + 1 end
      until not escapes
      if depth == 1 and sub(text, from, last) == '"enqueued_at"' then
        local _, value = find(text, '^%s*:%s*[^,}%s]+', last + 1)
        if value then return sub(text, 1, from - 1) .. stamp .. sub(text, value + 1) end
      end
    else
      depth = depth + ((kind == '{' or kind == '[') and 1 or -1)
    end
    at = last + 1
  end
end
"""

BODY = """
    local ok, job = try(decode, member)
    local queue = ok and type(job) == 'table' and job.queue
    if type(queue) ~= 'string' or sub(member, -1) ~= '}' then
      dead = 'no job of Sidekiq: expected a JSON object with a queue'
    else
      local list = key2 .. queue
      local length = lengths[queue]
      if hold and not length then
        length = pcall('LLEN', list)
        if type(length) == 'table' then added = length end
      end
      if not added and hold and length >= cap then
        skip = true
      elseif not added then
        local milliseconds = type(job.created_at) == 'number' and job.created_at > 1e11
        local stamp = '"enqueued_at":' .. (milliseconds and now_text or seconds)
        local payload
        if job.enqueued_at == nil then
          payload = sub(member, 1, -2) .. ',' .. stamp .. '}'
        elseif type(job.enqueued_at) == 'number' or job.enqueued_at == cjson.null then
          payload = with_stamp(member, stamp)
        else
          payload = member
        end
        if not known[queue] then
          added = pcall('SADD', key1, queue)
          known[queue] = type(added) == 'number'
        end
        if known[queue] then
          added = pcall('LPUSH', list, payload)
          if type(added) == 'number' then lengths[queue] = added end
        end
      end
    end
"""

LENGTH = """(function()
  local length = 0
  for _, queue in ipairs(redis.call('SMEMBERS', key1)) do length = length + redis.call('LLEN', key2 .. queue) end
  return length
end)()"""

# Since Sidekiq 7, each process stores its version.
SEEN = """
local found = {}
local processes = call('SMEMBERS', PREFIX .. 'processes')
for _, process in ipairs(processes) do
  local info = call('HGET', PREFIX .. process, 'info')
  local ok, about = try(cjson.decode, type(info) == 'string' and info or '')
  if ok and type(about) == 'table' and about.version then found[#found + 1] = about.version end
end
return found
"""


def sidekiq(prefix: str = "") -> in_place.InPlace:
    """`prefix` is a namespace's prefix, including its colon."""
    before = options.prefix("sidekiq", prefix)
    return in_place.InPlace(
        name="sidekiq",
        framework="Sidekiq",
        source=before + "{queue}",
        queues=("schedule", "retry"),
        score=in_place.Score.S,
        moves=in_place.Lua(setup=SETUP, body=BODY, keys=(f"{before}queues", f"{before}queue:"), length=LENGTH),
        job_id="job.jid",
        writes=(
            in_place.Writes(key=f"{before}queues", commands=("sadd", "smembers")),
            in_place.Writes(key=f"{before}queue:*", commands=("lpush", "llen")),
        ),
        tested=("sidekiq 6.4",),
        versions=("6", "9"),
        seen=f"local PREFIX = {options.lua(before)}\n{SEEN}",
        alike="*schedule",
    )
