"""Delayed jobs in one SQLite file. `backend.py` implements the contract, `database.py` owns the file and its thread."""
