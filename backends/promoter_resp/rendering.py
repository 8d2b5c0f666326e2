"""Renders the scripts: a line `-- layout PART` stands for a layout's Lua, a line `-- include NAME` for another file.

A layout's parts are compiled into the templates when it is selected. Interpreting its data inside the loop would take
nearly three times as long. The parts:

    before        promote.lua: code before the jobs
    move          promote.lua: adds one job to the target, and sets variables for promote.lua; never raises
    trim          promote.lua: trims the target, if jobs are not held back
    target        the command for the target's length
    scores        the head of the set, the due time of a score, and the bound for due jobs
    length        stats.lua: reads the target's length
    permission    lock.lua: refuses to lead without permission to remove jobs
    deliver       change.lua: functions that add one job

`in_place_rendering.py` has the parts of in-place layouts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

from promoter_core.spi import CHASQUIMQ, Layout, Part, Side, ToList, ToStream, in_place
from promoter_resp import in_place_rendering

Form = ToStream | ToList | in_place.InPlace  # forms of delivery, each with its own scripts

_INCLUDE = re.compile(r"^-- include (\w+)\n", re.MULTILINE)
_LAYOUT = re.compile(r"^-- layout (\w+)\n", re.MULTILINE)
_PLAIN = re.compile(r"[\w .:/-]", re.ASCII)

ALWAYS = frozenset({Part.ENVELOPE, Part.PAYLOAD, Part.ID})  # parts that every job has

CHASQUI = CHASQUIMQ.move  # hand-written, because most jobs use this form
LUA = {Part.PAYLOAD: "sub(member, from, last)", Part.ID: "sub(member, id_from, id_end)", Part.NAME: "name"}
LUA |= {Part.ENVELOPE: "sub(member, at)", Part.TRACEPARENT: "trace", Part.TRACESTATE: "state"}


def form_of(layout: Layout) -> Form:
    """Return the parts of a layout that its scripts depend on."""
    return layout if isinstance(layout, in_place.InPlace) else layout.move


@lru_cache(maxsize=256)
def render(name: str, form: Form = CHASQUI) -> str:
    """Return the text of a script, for this form of delivery."""
    text = _INCLUDE.sub(lambda line: _file(line[1]), _file(name))
    return _LAYOUT.sub(lambda line: _part(line[1], form), text)


def _file(name: str) -> str:
    return (resources.files("promoter_resp") / "scripts" / f"{name}.lua").read_text("utf-8")


def _part(part: str, move: Form) -> str:
    if part == "permission":  # a promotion in place checks its own permissions
        return "" if isinstance(move, in_place.InPlace) else _file("may_remove")
    if isinstance(move, in_place.InPlace):
        return in_place_rendering.part(part, move, _file, _quoted)
    if part == "scores":
        return _file("chasqui_scores")
    if part == "length":
        return "local length = redis.call(LENGTH, KEYS[3])\n"
    if part == "target":
        return f"local LENGTH = '{'XLEN' if isinstance(move, ToStream) else 'LLEN'}'\n"
    if part == "add":
        return _add(move, "pcall")
    if part == "add_or_raise":
        return _add(move, "call")
    if part == "trim":
        return _trim(move)
    return render(f"{'chasqui' if move == CHASQUI else 'payload'}_{part}", move)


def _trim(move: ToStream | ToList) -> str:
    """Return Lua that drops the oldest jobs of the target beyond `cap`."""
    if isinstance(move, ToStream):
        return "  pcall('XTRIM', stream, 'MAXLEN', '~', cap)\n"
    kept = "0, cap - 1" if move.side is Side.LEFT else "-cap, -1"
    return f"  pcall('LTRIM', stream, {kept})\n"


def _add(move: ToStream | ToList, call: str) -> str:
    """Return Lua that adds a job. `member`, `at`, `from`, `last`, `name` and the position of the id are known."""
    added = "added = " if call == "pcall" else ""
    if isinstance(move, ToList):
        push = f"{call}('{'LPUSH' if move.side is Side.LEFT else 'RPUSH'}', stream, {LUA[Part.PAYLOAD]})"
        if not added:
            return f"  {push}\n"
        # List entries have no id. The length is as expected, except at the first push.
        known = "  if added == length or type(added) == 'number' then length, added = added + 1, '' end\n"
        return f"  added = {push}\n{known}"
    named, nameless = (_xadd(move, call, named=named) for named in (True, False))
    lines = (
        f"  if name then {added}{named} else {added}{nameless} end\n" if named != nameless else f"  {added}{named}\n"
    )
    return f"  if trace then\n{_xadd_traced(move, added + call)}  else\n{lines}  end\n" if move.traced else lines


def _xadd(move: ToStream, call: str, *, named: bool) -> str:
    parts = ALWAYS | {Part.NAME} if named else ALWAYS
    fields = [f"{_quoted(field)}, {LUA[part]}" for field, part in move.fields if part in parts]
    return f"{call}('XADD', stream, '*', {', '.join(fields)})"


def _xadd_traced(move: ToStream, call: str) -> str:
    """Return Lua that adds a job with a trace context."""
    lines = ["local fields = {}"]
    for field, part in move.fields:
        add = f"fields[#fields + 1], fields[#fields + 2] = {_quoted(field)}, {LUA[part]}"
        lines.append(add if part in ALWAYS else f"if {LUA[part]} then {add} end")
    return "".join(f"    {line}\n" for line in (*lines, f"{call}('XADD', stream, '*', unpack(fields))"))


def _quoted(text: str) -> str:
    """Return a Lua string literal of these bytes."""
    return "'" + "".join(c if _PLAIN.fullmatch(c) else "".join(f"\\{b:03d}" for b in c.encode()) for c in text) + "'"
