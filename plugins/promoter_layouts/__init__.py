"""First-party layouts: due jobs go to where the consumers of other frameworks read.

`outward.py` makes the layouts; `plugin.py` registers them. `for_celery.py`, `for_faststream.py` and `for_taskiq.py`
schedule what a framework would send, made by the framework and not sent.
"""
