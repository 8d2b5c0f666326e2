"""Delayed jobs in other Python task queues, each with its own worker. `run.py` runs these scripts."""
