"""The in-memory backend, and the plain statement of what every backend must do. Start with `backend.py`."""
