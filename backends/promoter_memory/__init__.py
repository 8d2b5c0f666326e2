"""The in-memory backend, and the reference implementation of every backend's obligations. Start with `backend.py`."""
