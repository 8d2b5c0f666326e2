"""The `statsd` metrics sink. See `sink.py`."""
