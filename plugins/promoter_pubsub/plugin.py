"""Registers the `pubsub` event sink."""

from collections.abc import Iterable

from promoter_core.spi import SinkSpec, hookimpl


@hookimpl
def promoter_register_event_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="pubsub",
        summary="a message on a Redis or Valkey channel for each promoted job",
        target="promoter_pubsub.sink:PubSubEvents",
        options=("url", "channel"),
        requires=("redis",),
        install="promoter-core[redis]",
    )
