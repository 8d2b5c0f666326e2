"""Many queues in one process.

fleet.py         `PromoterFleet`: starts, runs and stops the parts below
assignment.py    which of the known queues are served here
machine_pool.py  their machines, served in turn on one backend
round_robin.py   which queue is next: a heap of waiting queues, and the queues in line
membership.py    membership in a group of processes; rendezvous.py decides which of them leads which queue
discovery.py     finds queues by pattern
"""

from promoter_core.runner.fleet.fleet import PromoterFleet

__all__ = ["PromoterFleet"]
