"""DiscoverySupport.find_queues: the pattern syntax, many queues, and which queues are found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import (
    DiscoverySupport,
    FleetSupport,
    JobChange,
    Lease,
    ManagementSupport,
    Remove,
    Replace,
    RunNow,
    chunked,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, Kit, job
from promoter_core.testing.conformance.obligations import obliges

FIND = "DiscoverySupport.find_queues"
WHICH = "Yield the queues that have delayed jobs or a leader and match one of the glob patterns"
GONE = "A queue whose last job is gone and whose lock was released or has expired is not found."
SHORT_MS = 60
MANY = 1_100  # more than a page of any store

NAMES = (
    *(
        "mail",
        "Mail",
        "MAIL",
        "mail2",
        "mail-2",
        "mail.2",
        "mail_2",
        "mail%2",
        "xmail",
        "mailx",
        "e-mail",
        ".mail",
        "mail/2",
    ),
    *("a", "b", "c", "d", "B", "ab", "a1", "^", "!", "-", "]", "é", "e\u0301", "日本"),
    *("100%", "100x", "100", "1_0", "1x0", "a.b", "axb", "a+b", "aab", "(a)", "a|b", "a$", "$a", "a b", "a'b"),
    *("a*", "a?", "[a]", "[", "a\\b", "a\\", "\\", "a\\*"),
)
PATTERNS = (
    *("mail", "MAIL", "mail*", "*mail", "*mail*", "Mai?", "m*l", "m*2", "mail?2", "mail.2", "mail_2", "mail%2", ".*"),
    *(
        "?",
        "??",
        "???",
        "",
        "*",
        "**",
        "*?",
        "?*",
        "[a-c]",
        "[!a-c]",
        "[^a]",
        "[!a]",
        "[ab][1b]",
        "[B-a]",
        "[-a]",
        "[a-]",
    ),
    *("[]]", "[!]]", "[]a]", "[!", "[", "[a", "[a-c]*", "[!m]*", "[日-本]本", "é", "?本"),
    *("100%", "100_", "1_0", "%", "_", "100*", "a.b", "a+b", "(a)", "a|b", "a$", "$a", "^a*", "a.*", ".", "a b", "a'b"),
    *("a[*]", "a[?]", "[[]a]", "[[]", "a\\b", "a\\*", "a\\", "\\*", "\\a", "[\\]", "a[\\]b", "{a,b}"),
)


class DiscoveryContract(ContractBase):
    @pytest.mark.parametrize("first", range(0, len(PATTERNS), 24))
    async def test_patterns_are_those_of_fnmatchcase(self, kit: Kit, first: int) -> None:
        needs_support(kit, DiscoverySupport)
        stamp = f"{ULID()}"
        await _led(kit, [f"{stamp}{name}" for name in NAMES])
        rule = "Patterns are those of `fnmatch.fnmatchcase`"
        wrong = {}
        for pattern in PATTERNS[first : first + 24]:
            found = {name.removeprefix(stamp) for name in await _found(kit, [f"{stamp}{pattern}"])}
            expected = {name for name in NAMES if fnmatchcase(name, pattern)}
            if found != expected:
                wrong[pattern] = f"missing {sorted(expected - found)}, and {sorted(found - expected)} are too many"
        obliges(FIND, rule, not wrong, wrong=wrong)

    async def test_patterns_are_for_the_whole_name(self, kit: Kit) -> None:
        """A pattern matches the whole name, not a part of it."""
        needs_support(kit, DiscoverySupport)
        stamp = f"{ULID()}"
        names = [f"{a}{stamp}{b}" for a in ("", "x", "X", "x-") for b in ("", "y", "-y", "Y")]
        await _led(kit, names)
        for pattern in (stamp, f"?{stamp}", f"*{stamp}", f"{stamp}?", f"x{stamp}y", f"[xX]{stamp}*", f"*{stamp}[!y]"):
            expected = [name for name in names if fnmatchcase(name, pattern)]
            found = sorted(await _found(kit, [pattern]))
            rule = "matched against the whole name, with case"
            obliges(FIND, rule, found == sorted(expected), pattern=pattern, found=found, expected=expected)

    async def test_of_more_queues_than_a_page_all_are_found(self, kit: Kit) -> None:
        needs_support(kit, DiscoverySupport)
        stamp = f"find-{ULID()}"
        led = [f"{stamp}-{i:04}" for i in range(MANY)]
        await _led(kit, led)
        with_jobs = [f"{stamp}-jobs-{i}" for i in range(20)]
        for name in with_jobs:
            await Kit(kit.backend, kit.clock, name).schedule("a")
        found = await _found(kit, [f"{stamp}-*"])
        missing = {*led, *with_jobs} - found
        obliges(FIND, WHICH, not missing, queues=MANY + 20, found=len(found), missing=sorted(missing)[:5])
        few = [f"{stamp}-*7", f"{stamp}-jobs-3", f"{stamp}-00[!0]?", f"{stamp}-no"]
        for some in (few, [f"{stamp}-109?"], [f"{stamp}-00??"], [f"{stamp}-jobs-19"]):
            expected = {name for name in (*led, *with_jobs) if any(fnmatchcase(name, pattern) for pattern in some)}
            found = await _found(kit, some)
            obliges(FIND, WHICH, found == expected, patterns=some, missing=expected - found, too_many=found - expected)

    async def test_no_pattern_finds_nothing(self, kit: Kit) -> None:
        needs_support(kit, DiscoverySupport)
        await kit.schedule("a")
        found = await _found(kit, [])
        obliges(FIND, WHICH, not found, patterns=[], found=found)

    async def test_what_has_jobs_or_a_leader_is_found_and_nothing_else(self, kit: Kit, pair: Any) -> None:
        needs_support(kit, DiscoverySupport)
        stamp = f"find-{ULID()}"

        def queue(name: str) -> Kit:
            return Kit(kit.backend, kit.clock, f"{stamp}-{name}")

        there, gone = set(), set()
        for name in ("far", "due", "overdue and led", "only led", "its lock has ended, with jobs"):
            there.add(queue(name).queue)
        for name in ("its lock has ended", "unlocked", "promoted", "cancelled", "looked at", "waited for", "refused"):
            gone.add(queue(name).queue)
        await queue("far").schedule("a", due_ms=10**14)
        await queue("due").schedule("a", delay_ms=0)
        await queue("overdue and led").schedule("a", delay_ms=0)
        for name in ("overdue and led", "only led"):
            await queue(name).lead()
        await queue("its lock has ended, with jobs").schedule("a")
        for name in ("its lock has ended, with jobs", "its lock has ended"):
            await queue(name).lead(ttl_ms=SHORT_MS)
        await kit.backend.unlock(await queue("unlocked").lead())
        await queue("promoted").schedule("a", delay_ms=0, unique=True)
        lease = await queue("promoted").lead()
        await queue("promoted").promote(lease)
        await kit.backend.unlock(lease)
        await queue("cancelled").schedule("a", unique=True)
        await kit.backend.cancel(queue("cancelled").queue, ["a"])
        await kit.backend.stats(queue("looked at").queue)
        await kit.backend.cancel(queue("looked at").queue, ["a"])
        await queue("refused").try_promote(Lease(queue("refused").queue, "me", LONG_MS))
        await kit.sleep_ms(SHORT_MS + 40)
        for of, backend in (("the backend that wrote", kit.backend), ("another", pair[1])):
            found = await _found(Kit(backend, kit.clock), [f"{stamp}-*"])
            obliges(FIND, WHICH, there <= found, asked=of, missing=sorted(there - found))
            obliges(FIND, GONE, not found & gone, asked=of, found=sorted(found & gone))

    async def test_a_queue_whose_jobs_were_changed_is_found_while_one_waits(self, kit: Kit) -> None:
        needs_support(kit, DiscoverySupport)
        needs_support(kit, ManagementSupport)
        stamp = f"find-{ULID()}"
        changes: dict[str, tuple[JobChange, bool]] = {  # with whether a job waits afterwards
            "removed": (Remove(job="a"), False),
            "run": (RunNow(job="a"), False),
            "kept in a full stream": (RunNow(job="a", max_stream_len=0), True),
            "replaced": (Replace(request=job("a", payload=b"new", delay_ms=LONG_MS)), True),
            "created": (Replace(request=job("b", delay_ms=LONG_MS)), True),
        }
        for name, (change, _) in changes.items():
            k = Kit(kit.backend, kit.clock, f"{stamp}-{name}")
            if name != "created":
                await k.schedule("a", unique=True)
            await k.backend.get_jobs(f"{stamp}-{name}-other", ["a"])
            await k.backend.change_jobs(k.queue, [change])
        found = await _found(kit, [f"{stamp}-*"])
        right = {f"{stamp}-{name}" for name, (_, waits) in changes.items() if waits}
        obliges(FIND, WHICH if right - found else GONE, found == right, found=sorted(found), expected=sorted(right))

    async def test_queues_that_go_while_others_are_sought_hide_none(self, kit: Kit) -> None:
        """A search that continues by offset skips as many queues as have been removed meanwhile."""
        needs_support(kit, DiscoverySupport)
        stamp = f"find-{ULID()}"
        names = {f"{stamp}-{i:03}" for i in range(350)}
        await _led(kit, sorted(names))
        found, stay = set[str](), set(names)
        async for page in kit.backend.find_queues([f"{stamp}-*"]):
            found |= set(page)
            for name in sorted(set(page) & stay)[::2]:
                await kit.backend.unlock(Lease(name, "me", LONG_MS))
                stay.discard(name)
        rule = "One that has jobs or a leader throughout is found at least once."
        missing = sorted(stay - found)
        obliges(FIND, rule, not missing, found=len(found), stayed=len(stay), missing=missing[:5])


async def _led(kit: Kit, queues: Sequence[str]) -> None:
    """Make "me" the leader of these queues."""
    if isinstance(kit.backend, FleetSupport):
        await kit.backend.lock_many(queues, "me", LONG_MS)
        return
    for some in chunked(queues, 50):
        await asyncio.gather(*(kit.backend.lock(queue, "me", LONG_MS) for queue in some))


async def _found(kit: Kit, patterns: Sequence[str]) -> set[str]:
    pages: list[Iterable[str]] = [page async for page in kit.backend.find_queues(patterns)]
    return {name for page in pages for name in page}
