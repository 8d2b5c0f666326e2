"""The `pubsub` event sink. See `sink.py`."""
