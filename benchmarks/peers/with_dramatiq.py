"""dramatiq: its delayed jobs and its own worker."""

import time

import dramatiq
from common import Run
from dramatiq.brokers.redis import RedisBroker

run = Run("dramatiq")
broker = RedisBroker(url=run.url)
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def noop(i):
    run.started(i)


for i in range(run.jobs):
    noop.send_with_options(args=(i,), delay=int(run.delay(i) * 1000))
run.scheduled()
dramatiq.Worker(broker, worker_threads=8).start()
while True:
    time.sleep(1)
