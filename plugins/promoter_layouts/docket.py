"""docket's scheduled tasks: they become entries of its stream, with everything that its own loop writes."""

from __future__ import annotations

from promoter_core.spi import in_place
from promoter_layouts import options

SETUP = r"""
local FIELDS = {'key', 'when', 'function', 'args', 'kwargs', 'attempt', 'generation'}
local NAMED = {['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t', ['"'] = '\\"', ['\\'] = '\\\\'}
local escape_one = function(c) return NAMED[c] or format('\\u%04x', string.byte(c)) end
"""

BODY = r"""
    local hash = key1 .. member
    local task = pcall('HMGET', hash, unpack(FIELDS))
    if task.err and find(task.err, 'WRONGTYPE', 1, true) then
      dead = 'no task of docket: ' .. task.err
    elseif task.err then
      added = task
    elseif not task[1] and not task[3] then
      gone = true -- cancelled
    else
      for i = 1, 6 do
        if not task[i] then dead = 'no task of docket: it has no ' .. FIELDS[i] end
      end
      if not dead then
        added = pcall('XADD', target, '*', 'key', task[1], 'when', task[2], 'function', task[3], 'args', task[4],
          'kwargs', task[5], 'attempt', task[6], 'generation', task[7] or '0')
        if type(added) == 'string' then
          pcall('DEL', hash)
          pcall('HSET', key1 .. 'runs:' .. task[1], 'state', 'queued')
          local key = string.gsub(task[1], '[%c"\\]', escape_one)
          pcall('PUBLISH', key1 .. 'state:' .. task[1],
            '{"type":"state","key":"' .. key .. '","state":"queued","when":"' .. task[2] .. '"}')
        end
      end
    end
"""


def docket(cluster: str = "false") -> in_place.InPlace:
    """The queue is the docket's name. `cluster=true` for a docket on a cluster, which puts braces around its name."""
    name = "{{queue}}" if options.flag("docket", "cluster", cluster) else "{queue}"
    return in_place.InPlace(
        name="docket",
        source=f"{name}:queue",
        score=in_place.Score.S,
        moves=in_place.Lua(setup=SETUP, body=BODY, target=f"{name}:stream", to_stream=True, keys=(f"{name}:",)),
        writes=(
            in_place.Writes(key=f"{name}:stream", commands=("xadd", "xlen")),
            in_place.Writes(key=f"{name}:*", commands=("hmget", "hset", "del")),
        ),
        publishes=(f"{name}:state:*",),
        tested=("docket 0.27",),
        versions=("0.27", "0.28"),
        alike="*:queue",
    )
