"""`BackendContract`: the obligations of every backend, as tests. Subclass it with a fixture `backend`; see the how-to.

lock.py             lock, unlock, exclusivity, expiry
promotion.py        promote: due, order, bound, fencing, lag
delivery.py         what a consumer receives: payloads, names, the stream's limit
scheduling.py       schedule, cancel, stats, read
overdue.py          jobs that wait for hours after their due time
text.py             ids, names, holders and queues that look alike
numbers.py          large numbers
order.py            due times and ties, in batches of any size
identity.py         repeated ids
waiting.py          wait, close, shape, faults
wakes.py            which changes end which waits
closing.py          behaviour after close
blocking.py         long calls and the event loop
driver_errors.py    exceptions of the driver
phases.py           cleanup and emit, fused or not
fleet.py            FleetSupport: several queues in one call, changes, members of a group
feeds.py            several feeds at once
members.py          membership of groups, and its expiry
discovery.py        patterns, and which queues are found
management.py       ManagementSupport: finding, counting and listing waiting jobs
paging.py           ManagementSupport: pages and cursors while the set changes
changes.py          ManagementSupport: moving and removing waiting jobs, by id or by StoredJob
running_now.py      ManagementSupport: promoting jobs immediately
replacing.py        ManagementSupport: replacing jobs
races.py            ManagementSupport: changes in two processes, and changes that are cancelled
kept_ids.py         how long ids stay taken, and the answers of a repeat and a cancellation
dead_letters.py     DeadLetterSupport: malformed members and the DLQ
diagnostics.py      DiagnosticsSupport: findings, and that a diagnosis leaves nothing behind
layouts.py          LayoutSupport: the keys follow the layout
atomicity.py        atomic operations of several processes
cancellation.py     calls that are cancelled, or lose their connection, in progress
instants.py         limits to the millisecond, on a clock that the test sets
particulars.py      faults that show only occasionally
random_programs.py  random programs, compared with the memory backend
layout_moves.py     LayoutContract
layout_in_place.py  InPlaceContract
sinks.py            EventSinkContract, MetricsSinkContract

Their building blocks:

base.py             the fixtures, and protection of the standard tests
managed.py          `Managed`: a `Kit` for waiting jobs
harness.py          `Kit`: one queue, with short methods for tests
obligations.py      reporting of broken obligations
interleaving.py     calls that are held, cancelled or failed at each of their awaits
shape_checks.py     methods, parameters and calls; answers.py: their answers
by_url.py           the whole kit for an installed backend, without writing a class

An optional protocol is tested in the file with the same name as in `promoter_core.spi.optional`. Its tests are skipped
if the backend does not offer it.
"""

try:
    import pytest  # noqa: F401  # of all that follows
except ImportError as exc:
    raise ImportError("the conformance kit needs pytest: pip install 'promoter-core[testing]'") from exc

from promoter_core.testing.conformance.atomicity import AtomicityContract
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.blocking import BlockingContract
from promoter_core.testing.conformance.cancellation import CancellationContract
from promoter_core.testing.conformance.changes import ChangesContract
from promoter_core.testing.conformance.closing import ClosingContract
from promoter_core.testing.conformance.dead_letters import DeadLettersContract
from promoter_core.testing.conformance.delivery import DeliveryContract
from promoter_core.testing.conformance.diagnostics import DiagnosticsContract
from promoter_core.testing.conformance.discovery import DiscoveryContract
from promoter_core.testing.conformance.driver_errors import DriverErrorsContract
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
    BlockingContract,
    DriverErrorsContract,
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
    """All contracts of a backend.

    A subclass provides a fixture `backend`, and as many optional ones of `ContractBase` as possible.
    """


__all__ = [
    "BackendContract",
    "ContractBase",
    "EventSinkContract",
    "InPlaceContract",
    "LayoutContract",
    "MetricsSinkContract",
]
