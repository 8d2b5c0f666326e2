"""Registers the `opentelemetry` metrics sink."""

from collections.abc import Iterable

from promoter_core.spi import SinkSpec, hookimpl


@hookimpl
def promoter_register_metrics_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="opentelemetry",
        summary="metrics and a span a tick through the OpenTelemetry API",
        target="promoter_opentelemetry.sink:OpenTelemetryMetrics",
        options=("spans", "server"),
        requires=("opentelemetry",),
        install="promoter-core[opentelemetry]",
    )
