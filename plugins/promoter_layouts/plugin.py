"""Registers the layouts, including that of the core."""

from collections.abc import Iterable

from promoter_core.spi import LayoutSpec, hookimpl


@hookimpl
def promoter_register_layouts() -> Iterable[LayoutSpec]:
    yield LayoutSpec(
        name="chasqui",
        summary="a stream for ChasquiMQ's consumers, and those of this library: the default",
        target="promoter_layouts.outward:chasqui",
    )
    yield LayoutSpec(
        name="stream",
        summary="a stream with fields of your choice",
        target="promoter_layouts.outward:stream",
        options=("key", "field", "id_field", "name_field"),
    )
    yield LayoutSpec(
        name="list",
        summary="a list, pushed to on the right or the left",
        target="promoter_layouts.outward:to_list",
        options=("key", "side"),
    )
    yield LayoutSpec(
        name="faststream",
        summary="a stream that a FastStream subscriber reads",
        target="promoter_layouts.outward:faststream",
        options=("key",),
    )
    yield LayoutSpec(
        name="faststream-list",
        summary="a list that a FastStream subscriber reads",
        target="promoter_layouts.outward:faststream_list",
        options=("key",),
    )
    yield LayoutSpec(
        name="taskiq",
        summary="the stream of taskiq-redis' RedisStreamBroker",
        target="promoter_layouts.outward:taskiq",
        options=("key",),
    )
    yield LayoutSpec(
        name="taskiq-list",
        summary="the list of taskiq-redis' ListQueueBroker",
        target="promoter_layouts.outward:taskiq_list",
        options=("key",),
    )
    yield LayoutSpec(
        name="celery",
        summary="the list that a Celery worker reads",
        target="promoter_layouts.outward:celery",
        options=("key", "priority"),
    )
    yield LayoutSpec(
        name="sidekiq",
        summary="in place: the sets schedule and retry of Sidekiq",
        target="promoter_layouts.sidekiq:sidekiq",
        options=("prefix",),
    )
    yield LayoutSpec(
        name="laravel",
        summary="in place: the delayed jobs of Laravel's queues",
        target="promoter_layouts.laravel:laravel",
        options=("prefix", "cluster", "early"),
    )
    yield LayoutSpec(
        name="rq",
        summary="in place: the scheduled jobs of RQ, under its scheduler's lock",
        target="promoter_layouts.rq:rq",
        options=("prefix", "early"),
    )
    yield LayoutSpec(
        name="docket",
        summary="in place: the scheduled tasks of docket",
        target="promoter_layouts.docket:docket",
        options=("cluster",),
    )
    yield LayoutSpec(
        name="saq",
        summary="in place: the scheduled jobs of SAQ",
        target="promoter_layouts.saq:saq",
        options=("early",),
    )
    yield LayoutSpec(
        name="huey",
        summary="in place: the schedule of Huey",
        target="promoter_layouts.huey:huey",
        options=("offset_s",),
    )
    yield LayoutSpec(
        name="streaq",
        summary="in place: the delayed tasks of streaQ, of one priority",
        target="promoter_layouts.streaq:streaq",
        options=("priority",),
    )
    yield LayoutSpec(
        name="bee-queue",
        summary="in place: the delayed jobs of bee-queue",
        target="promoter_layouts.bee_queue:bee_queue",
        options=("prefix",),
    )
    yield LayoutSpec(
        name="asynq",
        summary="in place: the scheduled tasks of asynq, or those to retry",
        target="promoter_layouts.asynq:asynq",
        options=("set", "early"),
    )
