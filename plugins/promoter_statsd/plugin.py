"""Registers the `statsd` metrics sink."""

from collections.abc import Iterable

from promoter_core.spi import SinkSpec, hookimpl


@hookimpl
def promoter_register_metrics_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="statsd",
        summary="counters, gauges and timings to a StatsD server, by UDP",
        target="promoter_statsd.sink:StatsdMetrics",
        options=("host", "port", "prefix"),
        requires=("statsd",),
        install="promoter-core[statsd]",
    )
