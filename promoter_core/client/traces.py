"""The trace context that a job receives: the caller's, or that of the span in which it is scheduled."""

from __future__ import annotations

import re
import sys

from promoter_core.spi.errors import JobError

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
NONE = ("", "")


def current_trace() -> tuple[str, str]:
    """Return `traceparent` and `tracestate` of the current span.

    Both are "" outside of a span, and in a program that does not use OpenTelemetry, which is never imported for this.
    """
    get_current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if get_current_span is None:  # opentelemetry is missing, or another thread is importing it
        return NONE
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return NONE
    tracestate = span.trace_state.to_header()
    traceparent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    return traceparent, tracestate if TRACESTATE.fullmatch(tracestate) else ""


def check_trace(traceparent: object, tracestate: object) -> tuple[str, str]:
    """Return the given trace context as text; "" for None. Raises JobError."""
    if traceparent is None or traceparent == "":
        if tracestate:
            raise JobError("tracestate= goes with traceparent=: give both, or neither")
        return NONE
    if not (isinstance(traceparent, str) and TRACEPARENT.fullmatch(traceparent)):
        raise JobError(f"traceparent must be as in W3C Trace Context, 00-…-…-01, not {traceparent!r}")
    if tracestate is None or tracestate == "":
        return traceparent, ""
    if not (isinstance(tracestate, str) and TRACESTATE.fullmatch(tracestate)):
        raise JobError(
            f"tracestate must be up to 512 characters of ASCII, as in W3C Trace Context, not {tracestate!r:.60}"
        )
    return traceparent, tracestate
