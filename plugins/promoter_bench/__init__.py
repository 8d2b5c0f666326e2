"""`promoter bench`: measures what promotion costs on a store. Start with `measures.py`."""
