"""`BackendContract`: what every backend owes, as tests. Subclass it and give it a `backend`; see the how-to.

lock.py             lock, unlock, exclusivity, expiry
promotion.py        promote: due, order, bound, fencing, lag
delivery.py         what a consumer finds: payloads, names, the stream's bound
scheduling.py       schedule, cancel, stats, read
overdue.py          jobs that wait for hours beyond their due time
text.py             ids, names, holders and queues that look alike
numbers.py          numbers of many bits
order.py            due times and ties, in batches of any size
identity.py         ids that come again
waiting.py          wait, close, shape, faults
wakes.py            which changes end which waits
closing.py          what is left after close
phases.py           cleanup and emit, fused or not
fleet.py            FleetSupport: several queues in one call, changes, members of a group
feeds.py            several feeds at once
members.py          who is a member of a group, and until when
discovery.py        patterns, and which queues there are to find
management.py       ManagementSupport: jobs that wait are found, counted and listed
paging.py           ManagementSupport: pages and cursors while the set changes
changes.py          ManagementSupport: jobs that wait are moved and removed, by id or by themselves
running_now.py      ManagementSupport: jobs that are promoted at once
replacing.py        ManagementSupport: jobs that take the place of others
races.py            ManagementSupport: changes in two processes, and changes that are cut off
kept_ids.py         how long ids stay taken, and what a repeat or a cancellation answers
dead_letters.py     DeadLetterSupport: malformed members and the DLQ
diagnostics.py      DiagnosticsSupport: what a diagnosis says and leaves
layouts.py          LayoutSupport: the keys are those of the layout
atomicity.py        what is atomic among processes
cancellation.py     calls that are cancelled, or lose their connection, half way
instants.py         what happens in which millisecond, on a clock that the test sets
particulars.py      what is wrong only now and then
random_programs.py  random programs, side by side with the memory backend
layout_moves.py     LayoutContract
layout_in_place.py  InPlaceContract
sinks.py            EventSinkContract, MetricsSinkContract

What they are made of:

base.py             the fixtures, and what guards the standard tests
managed.py          `Managed`: a `Kit` for waiting jobs
harness.py          `Kit`: one queue, with short words for what the tests do to it
obligations.py      how a test says what was broken
interleaving.py     calls that are held, cancelled or failed at each of their awaits
shape_checks.py     methods, parameters and calls; answers.py, what they answer
by_url.py           all of it for an installed backend, without writing a class

An optional protocol is tested in the file of the same name as in `promoter_core.spi.optional`, and skipped where a
backend does not offer it.
"""

try:
    import pytest  # noqa: F401  # of all that follows
except ImportError as exc:
    raise ImportError("the conformance kit needs pytest: pip install 'promoter-core[testing]'") from exc

from promoter_core.testing.conformance.atomicity import AtomicityContract
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.cancellation import CancellationContract
from promoter_core.testing.conformance.changes import ChangesContract
from promoter_core.testing.conformance.closing import ClosingContract
from promoter_core.testing.conformance.dead_letters import DeadLettersContract
from promoter_core.testing.conformance.delivery import DeliveryContract
from promoter_core.testing.conformance.diagnostics import DiagnosticsContract
from promoter_core.testing.conformance.discovery import DiscoveryContract
from promoter_core.testing.conformance.feeds import FeedsContract
from promoter_core.testing.conformance.fleet import FleetContract
from promoter_core.testing.conformance.identity import IdentityContract
from promoter_core.testing.conformance.instants import InstantsContract
from promoter_core.testing.conformance.kept_ids import KeptIdsContract
from promoter_core.testing.conformance.layout_in_place import InPlaceContract
from promoter_core.testing.conformance.layout_moves import LayoutContract
from promoter_core.testing.conformance.layouts import LayoutsContract
from promoter_core.testing.conformance.lock import LockContract
from promoter_core.testing.conformance.management import ManagementContract
from promoter_core.testing.conformance.members import MembersContract
from promoter_core.testing.conformance.numbers import NumbersContract
from promoter_core.testing.conformance.order import OrderContract
from promoter_core.testing.conformance.overdue import OverdueContract
from promoter_core.testing.conformance.paging import PagingContract
from promoter_core.testing.conformance.particulars import ParticularsContract
from promoter_core.testing.conformance.phases import PhasesContract
from promoter_core.testing.conformance.promotion import PromotionContract
from promoter_core.testing.conformance.races import RacesContract
from promoter_core.testing.conformance.random_programs import RandomProgramsContract
from promoter_core.testing.conformance.replacing import ReplacingContract
from promoter_core.testing.conformance.running_now import RunningNowContract
from promoter_core.testing.conformance.scheduling import SchedulingContract
from promoter_core.testing.conformance.sinks import EventSinkContract, MetricsSinkContract
from promoter_core.testing.conformance.text import TextContract
from promoter_core.testing.conformance.waiting import WaitingContract
from promoter_core.testing.conformance.wakes import WakesContract


class BackendContract(
    LockContract,
    PromotionContract,
    DeliveryContract,
    SchedulingContract,
    OverdueContract,
    WaitingContract,
    WakesContract,
    ClosingContract,
    TextContract,
    IdentityContract,
    KeptIdsContract,
    NumbersContract,
    OrderContract,
    PhasesContract,
    FleetContract,
    FeedsContract,
    MembersContract,
    DiscoveryContract,
    ManagementContract,
    PagingContract,
    ChangesContract,
    RunningNowContract,
    ReplacingContract,
    RacesContract,
    DeadLettersContract,
    DiagnosticsContract,
    LayoutsContract,
    AtomicityContract,
    CancellationContract,
    InstantsContract,
    ParticularsContract,
    RandomProgramsContract,
):
    """All of it. A subclass gives a fixture `backend`, and the optional ones of `ContractBase` that it can."""


__all__ = [
    "BackendContract",
    "ContractBase",
    "EventSinkContract",
    "InPlaceContract",
    "LayoutContract",
    "MetricsSinkContract",
]
