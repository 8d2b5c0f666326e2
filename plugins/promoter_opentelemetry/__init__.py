"""The `opentelemetry` metrics sink. See `sink.py`."""
