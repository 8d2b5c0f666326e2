"""Text that looks alike: ids, names, holders, queues, groups and members stay apart and come back exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ulid import ULID

from promoter_core.spi import (
    ChangeKind,
    ConfigError,
    FleetSupport,
    JobOutcome,
    Lease,
    LeaseHeld,
    LeaseLost,
    check_queue_name,
    to_bytes,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, Kit, job
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.waiting import MISSED, PATIENT_S

# Each row contains texts that some store or driver confuses or converts into one another.
FAMILIES: tuple[tuple[str, ...], ...] = (
    ("job", "Job", "JOB", "jOB", "ｊｏｂ"),
    ("i", "I", "ı", "İ"),  # the same letter in some locales after case folding
    ("straße", "strasse", "STRASSE", "straſſe"),
    ("é", "e\u0301", "É", "E\u0301", "e"),  # composed and decomposed
    ("ﬁ", "fi", "K", "\u212a", "²", "2"),  # compatibility forms
    ("a", "a ", " a", "a\t", "a\n", "a\r\n", "a\u00a0", "\ufeffa", "a\u200b"),
    ("a b", "a  b", "a\u00a0b", "a\tb", "ab"),
    ("x", "x\0", "x\0y", "\0x"),
    ("a.b", "a_b", "a-b", "a:b", "a/b", "a%b", "a\\b", "a%2eb"),
    ("it's", "it''s", 'it"s', "it`s", "it\\'s"),
    ("$1", "${x}", "%s", "%%s", "?", ":x", "\\x41", "&amp;", "&"),
    ("*", "[a]", "[!a]", "^a", "a$", "a*", "a?"),
    ("0", "00", "0.0", "-0", "1e0", "1", "01", "1.0", "+1", "True"),
    ("null", "None", "NULL", "nil", "nan", "undefined"),
    ("delayed", "stream", "events", "dlq", "lock", "promoter:lock", "members"),
    ("\udcff", "\udcfe", "\ufffd", "ÿ", "\\xff"),  # bytes that are not UTF-8, and their replacements
    ("\udcc3(", "\ufffd(", "Ã("),
    ("🎉", "🎊", "\ufffd\ufffd", "日本", "日木"),
    *((f"{'x' * size}a", f"{'x' * size}b", "x" * size) for size in (15, 31, 62, 63, 127, 196, 199, 253, 255, 510)),
    *(
        (f"{'é' * size}a", f"{'é' * size}b", "é" * size) for size in (31, 63, 98, 127, 255)
    ),  # truncation by bytes or by characters
)


def texts(most_bytes: int) -> list[str]:
    """Return all distinct texts that are short enough; neighbours look alike."""
    every = dict.fromkeys(text for family in FAMILIES for text in family)
    return [text for text in every if len(to_bytes(text)) <= most_bytes]


IDS, NAMES = texts(512), texts(256)


class TextContract(ContractBase):
    async def test_ids_that_look_alike_stay_apart(self, kit: Kit) -> None:
        exactly = "Queue names, ids, names and holders are compared and returned exactly"
        for one, other in ((IDS[::2], IDS[1::2]), (IDS[1::2], IDS[::2])):
            k = kit.other()
            created = [a.created for a in await k.schedule(*IDS, unique=True, delay_ms=0)]
            obliges("Backend", exactly, all(created), taken=_where(IDS, created, False))
            created = [a.created for a in await k.schedule(*IDS, unique=True, delay_ms=0)]
            obliges("Backend", exactly, not any(created), created_again=_where(IDS, created, True))
            outcomes = await k.backend.cancel(k.queue, one)
            missed = _where(one, outcomes, JobOutcome.NOT_FOUND)
            obliges("Backend", exactly, not missed, cancelled=one, not_found=missed)
            p = await k.promote(await k.lead())
            for where, seen in (
                ("the stream", await k.arrived()),
                ("Promotion.jobs", [j.id for j in p.jobs]),
                ("the events", [e["id"] for e in await k.events()]),
            ):
                _same("ids", where, seen, other)
            created = [a.created for a in await k.schedule(*IDS, unique=True)]
            free = _where(IDS, created, True)
            obliges("Backend", exactly, sorted(free) == sorted(one), cancelled=one, created_again=free)

    async def test_ids_that_look_alike_are_cancelled_apart(self, kit: Kit) -> None:
        for index in (True, False):
            k = kit.other()
            await k.schedule(*IDS[::2], index=index)
            outcomes = await k.backend.cancel(k.queue, IDS[1::2])
            found = _where(IDS[1::2], outcomes, JobOutcome.REMOVED)
            rule = "compared and returned exactly"
            obliges("Backend", rule, not found, index=index, waiting=IDS[::2], removed=found)
            outcomes = await k.backend.cancel(k.queue, IDS[::2])
            missed = _where(IDS[::2], outcomes, JobOutcome.NOT_FOUND)
            obliges("Backend", rule, not missed, index=index, not_found=missed)

    async def test_names_that_look_alike_come_back_exactly(self, kit: Kit) -> None:
        requests = [job(f"j{i}", name=name, delay_ms=0) for i, name in enumerate(NAMES)]
        await kit.backend.schedule(kit.queue, requests)
        p = await kit.promote(await kit.lead())
        expected = {request.id: request.name for request in requests}
        for where, seen in (
            ("the stream", {a.id: a.name for a in await kit.arrivals()}),
            ("Promotion.jobs", {j.id: j.name for j in p.jobs}),
            ("the events", {e["id"]: e.get("n") for e in await kit.events()}),
        ):
            wrong = {id: (name, seen.get(id)) for id, name in expected.items() if seen.get(id) != name}
            rule = "without case folding, Unicode normalization, padding or truncation"
            obliges("Backend", rule, not wrong, names_in=where, given_and_seen=wrong)

    async def test_jobs_that_differ_by_a_names_looks_are_all_kept(self, kit: Kit) -> None:
        """The jobs share an envelope, and differ in the name."""
        await kit.backend.schedule(kit.queue, [job("a", name=name, delay_ms=0) for name in NAMES])
        await kit.promote(await kit.lead())
        _same("names", "the stream", [a.name or "" for a in await kit.arrivals()], NAMES)

    async def test_holders_that_look_alike_are_others(self, kit: Kit) -> None:
        rule = "Queue names, ids, names and holders are compared and returned exactly"
        for family in FAMILIES:
            for i, mine in enumerate(family):
                k, others = kit.other(), family[i + 1 :] or family[:1]
                lease = await k.lead(mine)
                for theirs in others:
                    answer = await k.backend.lock(k.queue, theirs, LONG_MS)
                    held = isinstance(answer, LeaseHeld) and answer.holder == mine
                    obliges("Backend", rule, held, holder=mine, asked_by=theirs, answer=answer)
                theirs = others[0]
                released = await k.backend.unlock(Lease(k.queue, theirs, LONG_MS))
                obliges("Backend.unlock", "Never another holder's.", not released, holder=mine, asked_by=theirs)
                p = await k.try_promote(Lease(k.queue, theirs, LONG_MS))
                fenced = "unless `lease.holder` holds the lock and it has not expired, nothing changes"
                obliges("Backend.promote", fenced, p == LeaseLost(), holder=mine, asked_by=theirs, answer=p)
            stats = await k.backend.stats(k.queue)
            obliges("Backend", rule, stats.holder == mine and lease.holder == mine, holder=mine, stats=stats)
            released = await k.backend.unlock(lease)
            obliges("Backend.unlock", "Release the lock if `lease.holder` holds it", released, holder=mine)

    async def test_queues_that_look_alike_are_others(self, kit: Kit) -> None:
        """A job, id, lock or stream of one queue does not exist in another."""
        for _, queues in _queues(kit):
            for i, k in enumerate(queues):
                (answer,) = await k.schedule("a", unique=True, payload=b"%d" % i, delay_ms=0)
                obliges("Backend", "Queues never see one another.", answer.created, queue=k.queue, answer=answer)
                await k.lead(f"holder-{i}")
            for i, k in enumerate(queues):
                p = await k.promote(Lease(k.queue, f"holder-{i}", LONG_MS))
                payloads = [a.envelope.payload for a in await k.arrivals()]
                apart = (p.promoted, payloads) == (1, [b"%d" % i])
                obliges(
                    "Backend", "Queues never see one another.", apart, queue=k.queue, promotion=p, payloads=payloads
                )

    async def test_a_queue_and_an_id_are_two_texts(self, kit: Kit) -> None:
        """A store that joins them to one key confuses queue `a`, id `b:c` with queue `a:b`, id `c`."""
        rule = "Queues never see one another."
        for between in ("", ":", ".", "-", "_", "/", "|", "#", " ", "::"):
            long = Kit(kit.backend, kit.clock, f"{kit.queue}{between}b")
            await kit.schedule(f"b{between}c", unique=True, delay_ms=0)
            (answer,) = await long.schedule("c", unique=True, delay_ms=0)
            obliges("Backend", rule, answer.created, queue=long.queue, id="c", answer=answer)
            (outcome,) = await long.backend.cancel(long.queue, ["c"])
            removed = outcome is JobOutcome.REMOVED
            obliges("Backend", rule, removed, queue=long.queue, id="c", outcome=outcome)
            (answer,) = await kit.schedule(f"b{between}c", unique=True)
            obliges("Backend", rule, not answer.created, queue=kit.queue, id=f"b{between}c", answer=answer)
            await kit.backend.cancel(kit.queue, [f"b{between}c"])

    async def test_queues_that_look_alike_are_found_by_their_names(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        rule = "Yield the queues that have delayed jobs or a leader and match"
        for stamp, queues in _queues(kit):
            names = sorted(k.queue for k in queues)
            await kit.backend.lock_many(names[::2], "me", LONG_MS)
            for name in names[1::2]:
                await Kit(kit.backend, kit.clock, name).schedule("a")
            pages = [page async for page in kit.backend.find_queues([f"*{stamp}*"])]
            found = sorted({name for page in pages for name in page})
            obliges("DiscoverySupport.find_queues", rule, found == names, queues=names, found=found)

    async def test_feeds_name_queues_that_look_alike(self, kit: Kit, pair: Any) -> None:
        needs_support(kit, FleetSupport)
        needs_wake(kit)
        names = [k.queue for _, queues in _queues(kit) for k in queues]
        feed = await kit.backend.subscribe()
        missing = set(names)
        await pair[1].announce(names)
        for _ in range(50):
            changes = await feed.next(0.1)
            missing -= missing if changes.everything else changes.jobs
            if not missing:
                break
        feed.close()
        told = "Make the feeds of other processes report these queues."
        obliges("FleetSupport.announce", told, not missing, not_told_of=missing)

    async def test_waits_for_queues_that_look_alike_all_end(self, kit: Kit) -> None:
        needs_wake(kit)
        every = [k for _, queues in _queues(kit) for k in queues]
        for k in every:
            await k.promote(await k.lead())
        for k in every:
            await k.schedule("a")
        await kit.sleep_ms(30)
        for k in every:
            began_s = kit.clock.monotonic()
            woken = await k.backend.wait(k.queue, ChangeKind.JOBS, PATIENT_S)
            in_time = woken and kit.clock.monotonic() - began_s < PATIENT_S
            obliges("Backend.wait", MISSED, in_time, queue=k.queue, woken=woken)

    async def test_members_and_groups_that_look_alike_are_others(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        group, rule = f"group-{ULID()}", "return its current members"
        for member in IDS:
            members = await kit.backend.join_group(group, member, LONG_MS)
        _same("members", "Members.names", list(members.names), IDS, "FleetSupport.join_group", rule)
        for member in IDS[::2]:
            await kit.backend.leave_group(group, member)
        members = await kit.backend.join_group(group, IDS[1], LONG_MS)
        _same("members", "Members.names", list(members.names), IDS[1::2], "FleetSupport.join_group", rule)
        for _, queues in _queues(kit):
            for i, k in enumerate(queues):
                members = await kit.backend.join_group(k.queue, f"m{i}", LONG_MS)
                obliges("FleetSupport.join_group", rule, members.names == {f"m{i}"}, group=k.queue, members=members)


def _queues(kit: Kit) -> Iterator[tuple[str, list[Kit]]]:
    """Yield a unique stamp, and queue names that contain it and look alike, one family at a time."""
    for family in FAMILIES:
        stamp = str(ULID())
        names = [f"{text}{stamp}" if text[:1] in " \ufeff" else f"{stamp}{text}" for text in family]
        if queues := [Kit(kit.backend, kit.clock, name) for name in names if _is_queue(name)]:
            yield stamp, queues


def _is_queue(name: str) -> bool:
    try:
        return check_queue_name(name) == name
    except ConfigError:
        return False


def _where(asked: Sequence[str], answers: Sequence[object], answer: object) -> list[str]:
    return [text for text, given in zip(asked, answers, strict=True) if given is answer]


def _same(
    of: str,
    where: str,
    seen: Sequence[str | None],
    expected: Sequence[str],
    place: str = "Backend",
    rule: str = "without case folding, Unicode normalization, padding or truncation",
) -> None:
    __tracebackhide__ = True
    got = [text for text in seen if text is not None]
    missing, more = [t for t in expected if t not in got], [t for t in got if t not in expected]
    kept = sorted(got) == sorted(expected)
    obliges(place, rule, kept, **{f"{of}_in": where, "missing": missing, "instead": more, "seen": len(seen)})
