"""First-party layouts: due jobs go to where the consumers of other frameworks read.

`outward.py` makes the layouts; `plugin.py` registers them. `for_celery.py` and `for_taskiq.py` make a framework's own
message without sending it.
"""
