"""The `prometheus` metrics sink. See `sink.py`."""
