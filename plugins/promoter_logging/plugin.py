"""Registers the `logging` sinks."""

from collections.abc import Iterable

from promoter_core.spi import SinkSpec, hookimpl


@hookimpl
def promoter_register_event_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="logging",
        summary="a line for each promoted job",
        target="promoter_logging.sink:LoggingEvents",
        options=("logger", "level", "format", "per_second"),
    )


@hookimpl
def promoter_register_metrics_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="logging",
        summary="lines for ticks that promoted, and for errors",
        target="promoter_logging.sink:LoggingMetrics",
        options=("logger", "level", "format", "every_s"),
    )
