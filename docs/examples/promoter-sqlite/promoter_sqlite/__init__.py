"""Delayed jobs in one SQLite file. `backend.py` is the contract, `database.py` the file and its thread."""
