"""The `webhook` event sink. `delivery.py` decides what is sent and when; `sink.py` sends it."""
