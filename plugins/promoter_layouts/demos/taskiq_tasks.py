"""The broker, the task and the scheduler of the demo's taskiq processes."""

from __future__ import annotations

from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from promoter_layouts.demos.workers import URL, note

broker = RedisStreamBroker(URL)
source = ListRedisScheduleSource(URL)
scheduler = TaskiqScheduler(broker, [source])
broker.register_task(note, task_name="note")
