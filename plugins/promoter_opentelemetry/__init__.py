"""The `opentelemetry` metrics sink, see `sink.py`; and `extract`, for consumers."""

from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from promoter_opentelemetry.propagation import extract

__all__ = ["extract"]


def __getattr__(name: str) -> Any:
    if name == "extract":  # imported on demand, because the plugin is listed even without OpenTelemetry
        from promoter_opentelemetry.propagation import extract

        return extract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
