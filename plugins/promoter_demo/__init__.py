"""`promoter demo`: runs 20,000 jobs from scheduling to consumption on an embedded server. Start with `command.py`."""
