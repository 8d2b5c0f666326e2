"""`promoter demo`: the whole way of 20,000 jobs on an embedded server. Start with `command.py`."""
