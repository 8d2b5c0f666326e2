"""Backends that are each wrong in one way, and the standard test that is meant to find it.

Each is the memory backend with one change and a `killed_by`. `test_mutants.py` runs the kit on all of them.

`generated/` makes hundreds more of the memory backend's source: every small change of it, one at a time.
"""
