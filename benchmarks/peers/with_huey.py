"""huey: its delayed jobs and its own worker."""

import logging
import time
from datetime import UTC, datetime

from common import Run
from huey import RedisHuey

run = Run("huey")
huey = RedisHuey(url=run.url, results=False, utc=True)


@huey.task()
def noop(i):
    run.started(i)


for i in range(run.jobs):
    noop.schedule((i,), eta=datetime.fromtimestamp(run.due(i), UTC).replace(tzinfo=None))
run.scheduled()
logging.disable(logging.CRITICAL)
huey.create_consumer(workers=4, periodic=False).start()
while True:
    time.sleep(1)
