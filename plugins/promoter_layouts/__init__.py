"""First-party layouts: due jobs go to where the consumers of other frameworks read.

`outward.py` defines the layouts; `plugin.py` registers them. `for_celery.py`, `for_faststream.py` and `for_taskiq.py`
schedule messages that the framework makes and does not send.
"""
