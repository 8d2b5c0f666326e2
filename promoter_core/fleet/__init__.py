"""Many queues in one process.

fleet.py        `PromoterFleet`: what it serves, with whom it shares, when it stops
crew.py         the machines of the queues that are ours, served in turn on one backend
turns.py        which queues are served next: a heap of waiting ones, and who stands in line
membership.py   being one of several processes; rendezvous.py says which of them leads which queue
discovery.py    finding queues by pattern
"""

from promoter_core.fleet.fleet import PromoterFleet

__all__ = ["PromoterFleet"]
