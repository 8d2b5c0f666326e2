"""A model of one job id, and a check that what was asked and answered could have happened to it.

An id is in one state at a time: a job waits with it, or none does and the id is free or taken. Each request takes
effect at one moment between its call and its answer, and each entry of the stream is a promotion at about the time of
its id. `check` looks for an order of those moments that gives all the answers and all the entries: each job is promoted
once, with the data that was there then, or removed and never promoted. A request without an answer took effect at any
moment after its call, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

ENTRY_EARLY_S, ENTRY_LATE_S = 0.002, 0.25  # a promotion takes effect about when its entry's id says
INDEX_LOST_S = 5.0  # after a promotion: for as long another job with the id may be without the index that it had
CLOCK_MS = 2  # what rounding leaves
FREE, TAKEN, EITHER = "free", "taken", "either"  # an id with which no job waits


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a log: what a process asked, and what was answered. Times are seconds of the machine's clock."""

    op: str  # the name of a method of `Model`
    id: str
    call: float
    end: float | None = None  # None: no answer
    answer: Any = None
    token: str | None = None  # the data of the job that it makes
    name: str | None = None  # its name; None: that of the job in whose place it comes
    delay_ms: int | None = None  # None: it gives no due time
    keep: bool = True  # its id stays taken after its promotion
    handle: str | None = None  # the data of the job that is meant; None: the one with that id

    def once_more(self) -> Request:
        """The same request made again by the client itself, which lost the reply to the first one."""
        return replace(self, end=None, answer=None)

    @property
    def answered(self) -> bool:
        return self.end is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the stream's entries."""

    id: str
    ms: int  # the server's clock
    token: str
    name: str
    attempt: int = 0


class State(NamedTuple):
    """What an id is like. Without a `token` no job waits."""

    token: str | None = None
    name: str = ""
    due: tuple[float, float] = (0, 0)  # ms, from and to
    unique: bool = False
    indexed: bool = False
    keep: bool = True
    taken: str = FREE
    promoted: int = 0  # entries of the stream so far

    def without(self, taken: str) -> State:
        return State(taken=taken, promoted=self.promoted)


Step = Iterator[State]


@dataclass(slots=True)
class Model:
    """What each request may do. Its methods are named after those of the clients, and yield the states after it."""

    entries: Sequence[Entry]
    foreign_promoter: bool = True  # one that deletes indexes later than it promotes, and leaves keep keys

    def _made(self, s: State, r: Request, *, due: tuple[float, float] | None = None, **more: Any) -> State:
        name = r.name if r.name is not None else s.name if s.token else ""
        new = State(r.token, name, due or self._due(r), unique=True, indexed=True, keep=r.keep, promoted=s.promoted)
        return new._replace(**more)

    @staticmethod
    def _due(r: Request) -> tuple[float, float]:
        assert r.delay_ms is not None
        end = r.end if r.end is not None else r.call + 3_600
        return r.call * 1000 + r.delay_ms - CLOCK_MS, end * 1000 + r.delay_ms + CLOCK_MS

    @staticmethod
    def _if(r: Request, *answers: str | bool) -> bool:
        return not r.answered or r.answer in answers

    def _none(self, s: State, r: Request) -> Step:
        """The answers of a change that finds no job."""
        if s.token and r.handle is not None and s.token != r.handle:
            if self._if(r, "not-found") or (self._index_lost(s, r) and self._if(r, "already-promoted")):
                yield s
        elif not s.token:
            if s.taken != TAKEN and self._if(r, "not-found"):
                yield s._replace(taken=FREE)
            if s.taken != FREE and self._if(r, "already-promoted"):
                yield s._replace(taken=TAKEN)

    @staticmethod
    def _meant(s: State, r: Request) -> bool:
        return bool(s.token) and r.handle in (None, s.token)

    def schedule(self, s: State, r: Request) -> Step:
        if s.token:
            if self._if(r, "kept") or (self._index_lost(s, r) and self._if(r, "already-promoted")):
                yield s
        else:
            if s.taken != TAKEN and self._if(r, "created"):
                yield self._made(s, r)
            if s.taken != FREE and self._if(r, "already-promoted"):
                yield s._replace(taken=TAKEN)

    def mint(self, s: State, r: Request) -> Step:
        """A job with an id that nobody else uses, without a marker, with an index."""
        if not s.token and not s.promoted:
            yield self._made(s, r, unique=False)

    def mint_plain(self, s: State, r: Request) -> Step:
        """The same without an index: `index=False`, ChasquiMQ's `add` without an id, ZADD."""
        if not s.token:
            yield self._made(s, r, unique=False, indexed=False)

    def put(self, s: State, r: Request) -> Step:
        """`schedule` with on_repeat="replace", and `replace` with a due time."""
        if self._if(r, "replaced" if s.token else "created"):
            yield self._made(s, r)

    def replace(self, s: State, r: Request) -> Step:
        """Without a due time."""
        if s.token:
            if self._if(r, "replaced"):
                yield self._made(s, r, due=s.due)
        else:
            yield from self._none(s, r)

    def extend(self, s: State, r: Request) -> Step:
        if s.token:
            if self._if(r, "moved"):
                yield s._replace(due=self._due(r))
        elif self._if(r, "created"):
            yield self._made(s, r)

    def reschedule(self, s: State, r: Request) -> Step:
        if self._meant(s, r):
            if self._if(r, "moved"):
                yield s._replace(due=self._due(r))
        else:
            yield from self._none(s, r)

    def cancel(self, s: State, r: Request) -> Step:
        if self._meant(s, r):
            if self._if(r, "removed"):
                yield s.without(FREE)
        else:
            yield from self._none(s, r)

    def run_now(self, s: State, r: Request) -> Step:
        if self._meant(s, r):
            if self._if(r, "promoted") and self._is_next(s):
                taken = TAKEN if s.unique and s.keep else FREE
                yield s.without(taken)._replace(promoted=s.promoted + 1)
        else:
            yield from self._none(s, r)

    def see(self, s: State, r: Request) -> Step:
        """`get`, or one of a page of jobs: [data, name, due] or None."""
        if not s.token:
            if r.answer is None:
                yield s
        elif r.answer is not None:
            token, name, due_ms = r.answer
            if (s.token, s.name) == (token, name) and s.due[0] <= due_ms <= s.due[1]:
                yield s

    def add(self, s: State, r: Request) -> Step:
        """ChasquiMQ's `add` with an id: it does not say whether it did anything."""
        if s.token or s.taken != FREE:
            yield s if s.token else s._replace(taken=TAKEN)
        if not s.token and s.taken != TAKEN:
            yield self._made(s, r)

    def cancel_delayed(self, s: State, r: Request) -> Step:
        """ChasquiMQ's: by the index alone."""
        if s.token and s.indexed and self._if(r, True):
            yield s.without(FREE)
        if self._if(r, False) and not (s.token and s.indexed and not self._index_lost(s, r)):
            yield s

    def promote(self, s: State) -> Step:
        """By a promoter."""
        if s.token and self._is_next(s) and s.due[0] <= self.entries[s.promoted].ms + CLOCK_MS:
            taken = (TAKEN if s.keep else EITHER if self.foreign_promoter else FREE) if s.unique else FREE
            yield s.without(taken)._replace(promoted=s.promoted + 1)

    def _is_next(self, s: State) -> bool:
        if s.promoted >= len(self.entries):
            return False
        entry = self.entries[s.promoted]
        return (entry.token, entry.name) == (s.token, s.name)

    def _index_lost(self, s: State, r: Request) -> bool:
        """Whether ChasquiMQ's promoter, when it cleaned up, may have taken the index of a job that came meanwhile."""
        return (
            self.foreign_promoter and s.promoted > 0 and r.call - self.entries[s.promoted - 1].ms / 1000 < INDEX_LOST_S
        )


@dataclass(slots=True)
class Verdict:
    """Why a history is impossible; `at` is what had no explanation."""

    id: str
    at: Request | Entry | str
    states: Sequence[State]
    history: Sequence[Request | Entry] = field(repr=False, default=())

    def __str__(self) -> str:
        lines = [f"id {self.id!r}: no order of events explains {self.at}", "possible before it:"]
        lines += [f"  {state}" for state in self.states[:8]]
        lines += ["its history:", *(f"  {event}" for event in self.history)]
        return "\n".join(lines)


Config = tuple[State, frozenset[int]]  # a state, and which pending requests have taken effect


def check_id(id: str, requests: Sequence[Request], entries: Sequence[Entry], *, foreign: bool = True) -> Verdict | None:
    """None when there is an order that explains all of it. `entries` are in the stream's order."""
    model = Model(entries, foreign)
    events: list[tuple[float, int, int]] = []  # when, call 0 or end 1, which: requests, then entries
    for i, request in enumerate(requests):
        events.append((request.call, 0, i))
        if request.end is not None:
            events.append((request.end, 1, i))
    for i, entry in enumerate(entries, len(requests)):
        events.append((entry.ms / 1000 - ENTRY_EARLY_S, 0, i))
        events.append((entry.ms / 1000 + ENTRY_LATE_S, 1, i))
    events.sort()
    configs: set[Config] = {(State(), frozenset())}
    pending: set[int] = set()
    history: list[Request | Entry] = [*requests, *entries]
    for _, kind, i in events:
        if kind == 0:
            pending.add(i)
            continue
        before = configs
        if i < len(requests):
            configs = {c for c in _closure(configs, pending, model, requests, want=i) if i in c[1]}
            configs = {(state, done - {i}) for state, done in configs}
        else:
            need = i - len(requests) + 1
            configs = {c for c in _closure(configs, pending, model, requests) if c[0].promoted >= need}
        pending.discard(i)
        if not configs:
            return Verdict(id, history[i], sorted({c[0] for c in before}, key=str), _in_order(history))
    final = {state for state, _ in _closure(configs, pending, model, requests)}
    if not any(state.token is None and state.promoted == len(entries) for state in final):
        return Verdict(
            id, "the end: a job was neither promoted nor removed", sorted(final, key=str), _in_order(history)
        )
    return None


def _closure(
    configs: set[Config], pending: set[int], model: Model, requests: Sequence[Request], want: int | None = None
) -> set[Config]:
    """All that may be after some of the pending events have taken effect. What has `want` done goes no further."""
    seen, todo = set(configs), list(configs)
    first_entry = len(requests)
    while todo:
        state, done = todo.pop()
        if want is not None and want in done:
            continue
        for i in pending:
            if i in done:
                continue
            if i < first_entry:
                request = requests[i]
                step = getattr(model, request.op)(state, request)
                after = [
                    (new, done | {i})
                    for new in step
                    if new.promoted == state.promoted or first_entry + state.promoted in pending
                ]
            elif i == first_entry + state.promoted:
                after = [(new, done) for new in model.promote(state)]
            else:
                continue
            for config in after:
                if config not in seen:
                    seen.add(config)
                    todo.append(config)
    return seen


def _in_order(history: Iterable[Request | Entry]) -> list[Request | Entry]:
    return sorted(history, key=lambda event: event.ms / 1000 if isinstance(event, Entry) else event.call)


def check(requests: Iterable[Request], entries: Iterable[Entry], *, foreign: bool = True) -> list[Verdict]:
    """The ids that cannot be explained."""
    by_id: dict[str, tuple[list[Request], list[Entry]]] = defaultdict(lambda: ([], []))
    for request in requests:
        by_id[request.id][0].append(request)
    for entry in entries:
        by_id[entry.id][1].append(entry)
    verdicts = (check_id(id, *of_id, foreign=foreign) for id, of_id in by_id.items())
    return [verdict for verdict in verdicts if verdict is not None]
