"""`BackendContract`: what every backend owes, as tests. Subclass it and give it a `backend`; see the how-to.

base.py        the fixtures, and what guards the standard tests
lock.py        lock, unlock, exclusivity, expiry
promotion.py   promote: due, order, bound, fencing, lag
delivery.py    what a consumer finds: payloads, names, events, the stream's bound
scheduling.py  schedule, cancel, stats, read
overdue.py     jobs that wait for hours beyond their due time
waiting.py     wait, close, shape, faults
many.py        FleetSupport: several queues in one call, where a backend offers it
model.py       random programs, side by side with a model
sinks.py       EventSinkContract, MetricsSinkContract
"""

from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.delivery import DeliveryContract
from promoter_core.testing.conformance.fleet import FleetContract
from promoter_core.testing.conformance.lock import LockContract
from promoter_core.testing.conformance.overdue import OverdueContract
from promoter_core.testing.conformance.promotion import PromotionContract
from promoter_core.testing.conformance.random_programs import ModelContract
from promoter_core.testing.conformance.scheduling import SchedulingContract
from promoter_core.testing.conformance.sinks import EventSinkContract, MetricsSinkContract
from promoter_core.testing.conformance.waiting import WaitingContract


class BackendContract(
    LockContract,
    PromotionContract,
    DeliveryContract,
    SchedulingContract,
    OverdueContract,
    WaitingContract,
    FleetContract,
    ModelContract,
):
    """All of it. A subclass gives a fixture `backend`, and `pair` where two backends can share a store."""


__all__ = ["BackendContract", "ContractBase", "EventSinkContract", "MetricsSinkContract"]
