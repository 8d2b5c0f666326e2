"""`promoter bench`: what promotion costs on a store, measured on it. Start with `measures.py`."""
