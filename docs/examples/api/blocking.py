from promoter_core.sync import Connection, DelayedQueue, connect, list_queues


def welcome(backend: Connection, to: str) -> str:
    return DelayedQueue(backend, "emails").schedule({"to": to}, name="welcome", delay=300, job_id=to).id


with connect("memory://") as backend:
    print(welcome(backend, "ada"))
    print([(info.name, info.stats.depth) for info in list_queues(backend)])

# prints
# ada
# [('emails', 1)]
