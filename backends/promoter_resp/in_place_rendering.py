"""Renders the scripts of in-place layouts: the parts of `in_place.lua`, and of scripts that read scores and lengths.

scores        the head of the set, the due time of a score, and the bound for due members
try           removes no member, to find errors before a move
room, base    how many members can be moved, and the rank of the first
start, jump   continue where the last tick stopped among members that stay; `stopped` stores where this tick stopped
setup, body   the layout's Lua, or the Lua for its pushes and entries
failed        ends the batch after an error, or skips the member if others can go elsewhere
take, taken   remove a run of members from the set
id            the id of a job, for events and sinks
target        the command for the target's length; `length` reads it
"""

from __future__ import annotations

from collections.abc import Callable

from promoter_core.spi import Side, in_place

MAX_DUE = {in_place.Score.MS: "253402300799999", in_place.Score.S: "253402300799.999"}
NAMES = ("target", "key1", "key2", "key3", "key4", "key5", "key6", "key7", "key8", "key9")

# Half of a tick examines the oldest members, so that they are moved as soon as they may be. The other half continues
# where the last tick stopped, so that members that must stay do not block the ones behind them.
START = """local stopped = sub(dlq, 1, -4) .. 'stopped'
local start = tonumber(pcall('GET', stopped)) or 0
local goes_on = start > 0
if goes_on then
  most_bytes = BATCH_BYTES / 2
  if call('ZCOUNT', source, LOW, due) <= start then start = 0 end
end
"""
JUMP = """  if most_bytes < BATCH_BYTES and (kept >= MOST_KEPT / 2 or bytes >= most_bytes) then
    most_bytes = BATCH_BYTES
    if start > offset then base, offset = base + start - offset, start end
  end
"""
STOPPED = """if kept > 0 and (kept >= MOST_KEPT or bytes >= BATCH_BYTES) then
  pcall('SET', stopped, offset, 'PX', 60000)
elseif goes_on then
  pcall('DEL', stopped)
end
"""
FAILED_ELSEWHERE = "    if not dead and type(added) == 'table' and added.err then failure, skip = added, true end\n"


def part(name: str, layout: in_place.InPlace, file: Callable[[str], str], quoted: Callable[[str], str]) -> str:
    """Return the Lua of a part. `file` reads a script, `quoted` makes a Lua string."""
    match name:
        case "scores":
            return _scores(layout, file, quoted)
        case "target":
            return f"local LENGTH = '{'XLEN' if layout.to_stream else 'LLEN'}'\n"
        case "length":
            return _keys(layout) + f"local length = {_length(layout)}\n"
        case "try":
            return _try(layout)
        case "room":
            return _room(layout)
        case "base":
            return f"local base = {_base(layout)}\n"
        case "start":
            return START if _may_stay(layout) else ""
        case "jump":
            return JUMP if _may_stay(layout) else ""
        case "stopped":
            return STOPPED if _may_stay(layout) else ""
        case "failed":
            return FAILED_ELSEWHERE if not layout.target else ""
        case "setup":
            setup = layout.moves.setup if isinstance(layout.moves, in_place.Lua) else ""
            return _keys(layout) + setup.strip("\n") + "\n"
        case "body":
            return _body(layout, quoted)
        case "seen":
            return layout.seen.strip("\n") + "\n"
        case "score":
            return "    local score = batch[i + 1]\n" if _with_scores(layout) else ""
        case "taken":
            return (
                "      taken[2 * run - 1], taken[2 * run] = '0', member\n"
                if layout.take is in_place.Take.RESCORE
                else ""
            )
        case "rescored":
            return "local taken = {}\n" if layout.take is in_place.Take.RESCORE else ""
        case "take":
            return _take(layout)
        case "id":
            return f"        local id = {layout.job_id}\n"
    raise KeyError(name)


def _scores(layout: in_place.InPlace, file: Callable[[str], str], quoted: Callable[[str], str]) -> str:
    seconds = layout.score is in_place.Score.S
    shift = int(layout.whole) + layout.offset_s * (1 if seconds else 1000)
    now = "time[1] * 1000 + math.floor(time[2] / 1000)"
    exact = "string.format('%.0f.%06d', time[1] - SHIFT, time[2])"
    late_s = "string.format('%.6f', time[1] + time[2] / 1000000 - SHIFT - ms / 1000)"
    values = {
        "low": quoted(layout.floor or "-inf"),
        "shift": str(shift),
        "unit_ms": "1000" if seconds else "1",
        "parked": MAX_DUE[layout.score],
        "head": "redis.pcall('ZRANGEBYSCORE', key, LOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)"
        if layout.floor
        else "redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES')",
        "due_text": exact if seconds else f"string.format('%.0f', {now} - SHIFT)",
        "late_text": late_s if seconds else f"string.format('%.0f', {now} - SHIFT - ms)",
        "with_scores": "true" if _with_scores(layout) else "false",
        "depth": "redis.call('ZCOUNT', key, LOW, '+inf')" if layout.floor else "redis.call('ZCARD', key)",
    }
    text = file("in_place_scores")
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text


def _with_scores(layout: in_place.InPlace) -> bool:
    match layout.moves:
        case in_place.Entry(fields=fields):
            return in_place.Held.SCORE in (held for _, held in fields)
        case in_place.Lua(scores=scores):
            return scores
    return False


def _keys(layout: in_place.InPlace) -> str:
    """Return locals for the layout's own keys, which follow the five of all layouts."""
    names = ", ".join(f"key{i + 1}" for i in range(len(layout.more_keys)))
    values = ", ".join(f"KEYS[{i + 6}]" for i in range(len(layout.more_keys)))
    return f"local {names} = {values}\n" if names else ""


def _length(layout: in_place.InPlace) -> str:
    if layout.target:
        return "redis.call(LENGTH, KEYS[3])"
    assert isinstance(layout.moves, in_place.Lua)
    return layout.moves.length


def _room(layout: in_place.InPlace) -> str:
    """Return Lua that limits the batch to the room of a single target."""
    if not layout.target:
        return ""
    length = f"call('{'XLEN' if layout.to_stream else 'LLEN'}', target)"
    return f"if hold then room = min(limit, cap - {length}) end\n"


def _try(layout: in_place.InPlace) -> str:
    if layout.take is in_place.Take.RESCORE:
        return "call('ZADD', source, 'XX', 'INCR', '0', '')\n"
    return "call('ZREMRANGEBYRANK', source, 1, 0)\n"


def _may_stay(layout: in_place.InPlace) -> bool:
    return isinstance(layout.moves, in_place.Lua) and (not layout.target or "skip" in layout.moves.body)


def _base(layout: in_place.InPlace) -> str:
    return "call('ZCOUNT', source, '-inf', '(' .. LOW)" if layout.floor else "0"


def _body(layout: in_place.InPlace, quoted: Callable[[str], str]) -> str:
    match layout.moves:
        case in_place.Lua(body=body):
            return body.strip("\n") + "\n"
        case in_place.Entry(fields=fields):
            values = ", ".join(
                f"{quoted(name)}, {'member' if h is in_place.Held.MEMBER else 'score'}" for name, h in fields
            )
            return f"    added = pcall('XADD', target, '*', {values})\n"
        case in_place.Pushes(pushes=(first, *more)):
            names = dict(zip(dict.fromkeys(push.key for push in layout.moves.pushes), NAMES, strict=False))
            lines = [f"    added = {_push(first, names, quoted)}\n"]
            if more:
                after = " ".join(_push(push, names, quoted) for push in more)
                lines.append(f"    if type(added) == 'number' then {after} end\n")
            return "".join(lines)
    raise TypeError(layout.moves)


def _push(push: in_place.Push, names: dict[str, str], quoted: Callable[[str], str]) -> str:
    command = "LPUSH" if push.side is Side.LEFT else "RPUSH"
    return f"pcall('{command}', {names[push.key]}, {'member' if push.value is None else quoted(push.value)})"


def _take(layout: in_place.InPlace) -> str:
    if layout.take is in_place.Take.RESCORE:
        return "    call('ZADD', source, unpack(taken, 1, 2 * run))\n"
    return "    call('ZREMRANGEBYRANK', source, base, base + run - 1)\n"
