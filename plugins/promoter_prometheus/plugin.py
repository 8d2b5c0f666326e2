"""Registers the `prometheus` metrics sink."""

from collections.abc import Iterable

from promoter_core.spi import SinkSpec, hookimpl


@hookimpl
def promoter_register_metrics_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="prometheus",
        summary="counters, gauges and histograms for Prometheus, by prometheus-client",
        target="promoter_prometheus.sink:PrometheusMetrics",
        options=("namespace", "compat", "port", "addr"),
        requires=("prometheus_client",),
        install="promoter-core[prometheus]",
    )
