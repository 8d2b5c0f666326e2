"""RQ imports a job's function by its name; `run` is put here by with_rq.py."""

run = None


def noop(i):
    run.started(i)
