"""`extract`: continue the trace of a promoted job in its consumer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from promoter_core.spi import StreamEntry, to_text

FIELDS = ("traceparent", "tracestate")


def extract(
    entry: StreamEntry | Mapping[Any, Any] | Iterable[tuple[Any, Any]], context: Context | None = None
) -> Context:
    """Return the context for the span in which a consumer runs a job. Without a trace, it is `context` or an empty one.

    `entry` is the stream entry, or its fields as a client returns them: a mapping or pairs, bytes or text. An event of
    a promoter has the same fields.

        with tracer.start_as_current_span("process emails", context=extract(fields), kind=SpanKind.CONSUMER):
            ...
    """
    fields: Any = entry.fields if isinstance(entry, StreamEntry) else entry
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    texts = {_text(field): _text(value) for field, value in pairs}
    carrier = {field: texts[field] for field in FIELDS if field in texts}
    return TraceContextTextMapPropagator().extract(carrier, context)


def _text(value: Any) -> str:
    return to_text(value) if isinstance(value, bytes) else str(value)
