"""`BackendContract`: what every backend owes, as tests. Subclass it and give it a `backend`; see the how-to.

base.py        the fixtures, and what guards the standard tests
lock.py        lock, unlock, exclusivity, expiry
promotion.py   promote: due, order, bound, fencing, lag
delivery.py    what a consumer finds: payloads, names, events, the stream's bound
scheduling.py  schedule, cancel, stats, read
overdue.py     jobs that wait for hours beyond their due time
waiting.py     wait, close, shape, faults
many.py        ManyQueues: several queues in one call, where a backend offers it
model.py       random programs, side by side with a model
sinks.py       EventSinkContract, MetricsSinkContract
"""

from promoter_core.testing.contract.base import ContractBase
from promoter_core.testing.contract.delivery import DeliveryContract
from promoter_core.testing.contract.lock import LockContract
from promoter_core.testing.contract.many import ManyQueuesContract
from promoter_core.testing.contract.model import ModelContract
from promoter_core.testing.contract.overdue import OverdueContract
from promoter_core.testing.contract.promotion import PromotionContract
from promoter_core.testing.contract.scheduling import SchedulingContract
from promoter_core.testing.contract.sinks import EventSinkContract, MetricsSinkContract
from promoter_core.testing.contract.waiting import WaitingContract


class BackendContract(
    LockContract,
    PromotionContract,
    DeliveryContract,
    SchedulingContract,
    OverdueContract,
    WaitingContract,
    ManyQueuesContract,
    ModelContract,
):
    """All of it. A subclass gives a fixture `backend`, and `pair` where two backends can share a store."""


__all__ = ["BackendContract", "ContractBase", "EventSinkContract", "MetricsSinkContract"]
