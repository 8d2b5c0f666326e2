"""asynq's scheduled and retried tasks: ids go to the pending list, or to the set of their group.

Its workers poll an empty list every 0.5 to 1.5 s, so a task starts up to that much later than it is moved.
"""

from __future__ import annotations

from promoter_core.spi import ConfigError, in_place
from promoter_layouts import options

SETS = ("scheduled", "retry")

SETUP = """
local since = time[1] .. format('%06d000', time[2]) -- in ns, which are too many for a number
"""

BODY = """
    local hash = key1 .. member
    local task = pcall('HMGET', hash, 'msg', 'group')
    if task.err and find(task.err, 'WRONGTYPE', 1, true) then
      dead = 'no task of asynq: ' .. task.err
    elseif task.err then
      added = task
    elseif not task[1] then
      gone = true
    elseif task[2] and task[2] ~= '' then
      added = pcall('ZADD', key2 .. task[2], time[1], member)
      if type(added) == 'number' then pcall('HSET', hash, 'state', 'aggregating') end
    else
      added = pcall('LPUSH', target, member)
      if type(added) == 'number' then pcall('HSET', hash, 'state', 'pending', 'pending_since', since) end
    end
"""


def asynq(set: str = "scheduled", early: str = "false") -> in_place.InPlace:
    """`set` is `scheduled` or `retry`. `early=true` moves a task at its score, which is a whole second."""
    if set not in SETS:
        raise ConfigError(f"layout 'asynq': set must be {' or '.join(SETS)}, not {set!r}")
    key = "asynq:{{queue}}"
    return in_place.InPlace(
        name="asynq",
        source=f"{key}:{set}",
        score=in_place.Score.S,
        whole=not options.flag("asynq", "early", early),
        moves=in_place.Lua(setup=SETUP, body=BODY, target=f"{key}:pending", keys=(f"{key}:t:", f"{key}:g:")),
        writes=(
            in_place.Writes(key=f"{key}:pending", commands=("lpush", "llen")),
            in_place.Writes(key=f"{key}:t:*", commands=("hmget", "hset")),
            in_place.Writes(key=f"{key}:g:*", commands=("zadd",)),
        ),
        versions=("0.24", "0.27"),
        alike="asynq:{*}:*",
    )
