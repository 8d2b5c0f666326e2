"""`InPlace`: a layout for another framework's sorted set, which moves due members as that framework does.

The framework's producers and workers stay as they are. A plugin registers such layouts with the hook for all layouts,
`promoter_register_layouts`. A layout is data: what is due, how it moves, and which keys the move writes. Key templates
contain QUEUE, the placeholder for the queue's name. Times are those of the server.

Promoter's own keys (lock, events, dead letters) start with the name of the set. So promoters with two layouts for the
same set exclude each other, and sets with the same name but different prefixes stay independent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from math import isfinite

from promoter_core.spi.errors import ConfigError, PermanentError
from promoter_core.spi.layouts import (
    COMMANDS,
    QUEUE,
    REHEARSAL,
    Layout,
    Move,
    Side,
    ToList,
    beginning,
    glob,
    hash_tag,
)
from promoter_core.spi.queue_keys import STREAM, WAKE, QueueKeys, under
from promoter_core.spi.spec_checks import nearest
from promoter_core.spi.wire import to_text

__all__ = ["OWN", "Beside", "Entry", "Held", "InPlace", "Lua", "Push", "Pushes", "Score", "Take", "Writes"]

OWN = b"promoter-in-place:"  # prefix of Promoter's own keys
_QUEUE_NAME = r"[^{}\x00-\x1f]+"


class Score(StrEnum):
    """The unit of a sorted set's scores, which are Unix times."""

    MS = "ms"
    S = "s"


class Take(StrEnum):
    """How a member leaves the delayed part of its set."""

    REMOVE = "remove"
    RESCORE = "rescore"  # the member keeps the score 0, which is below the floor


class Beside(StrEnum):
    """Whether the framework's own scheduler can run beside a promoter."""

    SAFE = "safe"  # yes: each member is moved once, because the framework takes it in one atomic step
    SHARED_LOCK = "shared lock"  # yes: both take the same lock
    NEVER = "never"  # no: members would be moved twice


class Held(StrEnum):
    """The value of a stream entry's field."""

    MEMBER = "member"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Push:
    """Push the member, or a fixed text, to the list `key`."""

    key: str
    side: Side = Side.RIGHT
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Pushes:
    """Push each due member to the first list, then make the other pushes, whose errors are ignored."""

    pushes: tuple[Push, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Add each due member to the stream `key` as an entry."""

    key: str
    fields: tuple[tuple[str, Held], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lua:
    """A move in Lua, for moves that need to read members.

    `setup` runs once a batch, `body` for each member, both inline in the promote script. They see these locals: `call`
    and `pcall` of the server, `try` (Lua's `pcall`), `sub`, `find`, `format`, `floor`, `min`, `source`, `target`,
    `hold`, `cap`, `time` (the reply of TIME), `now` (ms), `now_text`, and `key1`, `key2`, … for `keys`. The body sees
    `member` and, with `scores`, the text `score`. It sets one of these:

    - `added`: the reply of its first write, made with `pcall`. After an error, the member stays and the batch ends;
      without a `target`, the batch continues, because other members can go elsewhere.
    - `dead`: why the member is not a job. The member goes to Promoter's dead letters, byte for byte, and the batch
      continues.
    - `skip = true`: the member stays for now and counts as held back.
    - `gone = true`: the framework no longer has the job. The member leaves the set and is not counted.

    The body never raises. It checks everything it uses before the first write and makes later writes with `pcall`,
    because a member that was added leaves the set.
    """

    body: str
    setup: str = ""
    target: str = ""  # the key whose length `max_stream_len` limits; "": the body handles `hold` and `cap`
    to_stream: bool = False  # the target is a stream
    keys: tuple[str, ...] = ()  # additional keys, or prefixes of keys
    length: str = "0"  # without a target: a Lua expression for how many jobs are at their targets
    scores: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """The commands that a move runs on a key, or on all keys of a pattern in which `*` stands for any text."""

    key: str
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class InPlace(Layout):
    """Another framework's sorted set, and the move of its due members. Raises ConfigError for inconsistent data."""

    source: str  # the key of the sorted set, with QUEUE
    moves: Pushes | Entry | Lua
    writes: tuple[Writes, ...] = ()  # of a `Lua` move; other moves imply theirs
    publishes: tuple[str, ...] = ()  # channels of a `Lua` move, or patterns of channels
    framework: str = ""  # display name, such as "Sidekiq"; "": the layout's name
    score: Score = Score.MS
    whole: bool = False  # scores are truncated to whole units: members are due one unit later, so never early
    offset_s: int = 0  # added to scores that are not in UTC
    floor: str = ""  # members with lower scores are not delayed
    take: Take = Take.REMOVE
    their_lock: str = ""  # the key of the framework's lock, if it is taken and released like Promoter's
    job_id: str = "member"  # a Lua expression, evaluated after the body; nil without an id
    beside: Beside = Beside.SAFE
    queues: tuple[str, ...] = ()  # the only valid queue names, if the framework fixes them
    versions: tuple[str, str] = ("", "")  # supported versions: from the first, below the second
    seen: str = ""  # Lua that returns a list of the running versions, if the store shows them
    alike: str = ""  # a server glob for the framework's sets with any options, to show which exist

    start: bytes = field(default=OWN, init=False)
    end: bytes = field(default=b":", init=False)
    delayed: bytes = field(default=b"", init=False)
    lock: bytes = field(default=b"lock", init=False)
    members: bytes = field(default=b"members", init=False)
    move: Move = field(default=ToList(), init=False, repr=False)  # of Promoter's own jobs, which this set never holds
    target: str = field(default="", init=False)
    serializer: str = field(default="raw", init=False)

    def __post_init__(self) -> None:
        what = f"layout {self.name!r}"
        if self.queues and QUEUE not in self.source and len(self.queues) > 1:
            raise ConfigError(f"{what}: source {self.source!r} is one key for all of its queues; include {QUEUE} in it")
        if not self.queues and self.source.count(QUEUE) != 1:
            raise ConfigError(f"{what}: source must be a key with {QUEUE} in it, once, not {self.source!r}")
        if isinstance(self.moves, Pushes) and not (self.moves.pushes and self.moves.pushes[0].value is None):
            raise ConfigError(f"{what}: the first push must be that of the member")
        if isinstance(self.moves, Entry) and Held.MEMBER not in (held for _, held in self.moves.fields):
            raise ConfigError(f"{what}: a field of the entry must hold the member")
        if isinstance(self.moves, Lua) and not self.writes:
            raise ConfigError(f"{what}: writes must name the keys and the commands of the move")
        if self.floor and not _is_score(self.floor):
            raise ConfigError(f"{what}: floor must be a score, such as 1, not {self.floor!r}")
        if self.take is Take.RESCORE and not (self.floor and float(self.floor) > 0):
            raise ConfigError(f"{what}: members that stay with the score 0 need a floor above it")
        if bool(self.their_lock) is not (self.beside is Beside.SHARED_LOCK):
            raise ConfigError(f"{what}: their_lock and beside=Beside.SHARED_LOCK belong together")
        target = self.moves.target if isinstance(self.moves, Lua) else self._keys_of_move()[0]
        object.__setattr__(self, "target", target)

    @property
    def to_stream(self) -> bool:
        return isinstance(self.moves, Entry) or (isinstance(self.moves, Lua) and self.moves.to_stream)

    @property
    def owner(self) -> str:
        """The framework's display name."""
        return self.framework or self.name

    @property
    def more_keys(self) -> tuple[str, ...]:
        """The templates of the script's keys beyond those of all layouts."""
        if isinstance(self.moves, Lua):
            return self.moves.keys
        return self._keys_of_move()[1:]

    @property
    def all_writes(self) -> tuple[Writes, ...]:
        """Each key, or glob of keys, that a promotion writes, except the source and Promoter's own keys."""
        if isinstance(self.moves, Lua):
            return self.writes
        if isinstance(self.moves, Entry):
            return (Writes(key=self.moves.key, commands=("xadd", "xlen")),)
        found: dict[str, list[str]] = {}
        for push in self.moves.pushes:
            found.setdefault(push.key, ["llen"]).append("lpush" if push.side is Side.LEFT else "rpush")
        return tuple(Writes(key=key, commands=tuple(commands)) for key, commands in found.items())

    @property
    def one_slot(self) -> bool:
        queue = self.queues[0] if self.queues else "q"
        keys = [self.source, self.their_lock, *self._keys_of_move(), *(w.key for w in self.all_writes)]
        tags = {hash_tag(_filled(key, queue)) for key in keys if key}
        return tags == {hash_tag(self.keys_of(queue).prefix)}

    def sentence(self) -> str:
        """Return the reason why Promoter's own producers cannot write here."""
        return f"this set belongs to {self.owner}; schedule with {self.owner}"

    def acl(self, queue: str = "*") -> tuple[str, ...]:
        names = [glob(queue)] if queue != "*" else self.queues or [queue]
        templates = [template for template in (self.source, self.their_lock, *self._keys_of_move()) if template]
        keys = [f"~{_pattern(template, name)}" for template in templates for name in names]
        keys += [
            f"~{_pattern(w.key, name, stars=True)}" for w in self.writes if w.key not in templates for name in names
        ]
        own = [f"~{self.start.decode()}*"]
        if queue != "*":
            p, doctor = self.keys_of(queue).prefix.decode(), f"{self.start.decode()}{{{REHEARSAL}"
            own = [f"~{glob(p)}*", f"~{doctor}*"]
        commands = dict.fromkeys((*COMMANDS, "xlen", "llen", *(c for w in self.all_writes for c in w.commands)))
        channels = [f"&{self.channels}", "&__redis__:invalidate"]
        channels += [f"&{_pattern(c, name, stars=True)}" for c in self.publishes for name in names]
        return (
            *own,
            *dict.fromkeys(keys),
            "resetchannels",
            *channels,
            "-@all",
            *(f"+{command}" for command in commands),
        )

    def keys_of(self, queue: str) -> QueueKeys:
        """Return all keys of `queue`. Raises PermanentError when the framework has no such queue."""
        return _keys(self, queue)

    def check_queue(self, queue: str) -> None:
        if self.queues and not any(fnmatchcase(name, queue) for name in self.queues):
            near = nearest(queue, self.queues)
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigError(f"{self.owner} has the queues {' and '.join(self.queues)}, not {queue!r}{hint}")

    def keys_for_script(self, queue: str) -> tuple[bytes, ...]:
        """Return `more_keys` for `queue`."""
        return tuple(_filled(template, queue) for template in self.more_keys)

    def queue_of(self, key: bytes) -> tuple[str, bytes] | None:
        """Like `Layout.queue_of`; the rest is empty for the source and `lock` for a lock."""
        for pattern, rest in self._patterns:
            if (found := pattern.fullmatch(key)) is not None:
                name = to_text(found[1]) if pattern.groups else self.queues[0]
                return (name, rest) if not self.queues or name in self.queues else None
        group, end, last = key.removeprefix(self._fleet).partition(self.end)
        return (to_text(group), last) if end and key.startswith(self._fleet) else None

    def group_keys(self, group: str) -> tuple[bytes, bytes]:
        p = self._fleet + group.encode() + self.end
        return p + self.members, p + WAKE

    def heads_globs(self, patterns: Sequence[str]) -> tuple[bytes, ...]:
        name = beginning(patterns) + "*"
        return tuple(_pattern(template, name).encode() for template in (self.source, self._lock_template))

    @cached_property
    def _patterns(self) -> tuple[tuple[re.Pattern[bytes], bytes], ...]:
        return tuple(
            (re.compile(re.escape(template).replace(re.escape(QUEUE), f"({_QUEUE_NAME})").encode()), rest)
            for template, rest in ((self.source, self.delayed), (self._lock_template, self.lock))
        )

    @cached_property
    def _fleet(self) -> bytes:
        """Return the prefix of group names, which belong to this layout with exactly these options."""
        return _own(self.source.replace(QUEUE, "*")).encode() + b"promoter-fleet-"

    @property
    def _lock_template(self) -> str:
        return self.their_lock or _own(self.source) + self.lock.decode()

    def _keys_of_move(self) -> tuple[str, ...]:
        match self.moves:
            case Pushes(pushes=pushes):
                return tuple(dict.fromkeys(push.key for push in pushes))
            case Entry(key=key):
                return (key,)
            case Lua(target=target, keys=keys):
                return ((target,) if target else ()) + keys


def _own(source: str) -> str:
    """Return the prefix of Promoter's own keys for a set: in the same slot, and different for each set."""
    tag = hash_tag(source.replace(QUEUE, "q").encode())
    whole = tag == source.replace(QUEUE, "q").encode()
    return f"{OWN.decode()}{{{source}}}:" if whole else f"{OWN.decode()}{source}:"


def _filled(template: str, queue: str) -> bytes:
    return template.replace(QUEUE, queue).encode()


def _is_score(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _pattern(template: str, name: str, *, stars: bool = False) -> str:
    """Return a server glob for a template. `stars` stay wildcards, and `name` is already a glob."""
    parts = (part.split("*") if stars else [part] for part in template.split(QUEUE))
    return name.join("*".join(glob(text) for text in part) for part in parts)


@lru_cache(maxsize=16_384)
def _keys(layout: InPlace, queue: str) -> QueueKeys:
    rehearsed = queue.startswith(REHEARSAL)  # a diagnosis uses separate keys, and does not change the framework's
    if not rehearsed:
        try:
            layout.check_queue(queue)
        except ConfigError as error:
            raise PermanentError(str(error), code="NOQUEUE") from None
    source = _filled(layout.source, queue)
    p = OWN + b"{" + queue.encode() + b"}:" if rehearsed else _own(source.decode()).encode()
    target = p + STREAM if rehearsed or not layout.target else _filled(layout.target, queue)
    return under(
        p,
        delayed=p + b"delayed" if rehearsed else source,
        stream=target,
        lock=_filled(layout.their_lock, queue) if layout.their_lock and not rehearsed else p + layout.lock,
    )
