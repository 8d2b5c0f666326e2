"""Remind everybody on a list one day before an event: `python script.py people.txt 2030-05-01T09:00:00+02:00`."""

import os
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from promoter_core import Job, PromoterError
from promoter_core.sync import DelayedQueue, connect


def reminders(people: Path, begins: datetime) -> Iterator[Job]:
    for line in people.read_text().splitlines():
        if address := line.strip():
            # The id makes the script safe to repeat: a second run changes nothing that the first one scheduled.
            id = f"reminder-{begins:%Y%m%d}-{address}"
            yield Job(data={"to": address}, name="reminder", at=begins - timedelta(days=1), job_id=id)


def main(people: str, begins: str) -> int:
    url = os.environ.get("PROMOTER_URL", "redis://localhost:6379")
    try:
        with connect(url) as backend:
            jobs = DelayedQueue(backend, "mails").schedule_many(reminders(Path(people), datetime.fromisoformat(begins)))
    except PromoterError as error:
        print(f"nothing, or not all, was scheduled: {error}", file=sys.stderr)
        return 1
    print(f"{sum(job.created for job in jobs)} scheduled, {sum(not job.created for job in jobs)} were already")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
