"""Many queues in one process.

fleet.py         `PromoterFleet`: starts, runs and stops the parts below
assignment.py    which of the known queues are served here
machine_pool.py  their machines, served in turn on one backend
round_robin.py   whose turn it is: a heap of waiting queues, and those that stand in line
membership.py    being one of several processes; rendezvous.py says which of them leads which queue
discovery.py     finding queues by pattern
"""

from promoter_core.runner.fleet.fleet import PromoterFleet

__all__ = ["PromoterFleet"]
