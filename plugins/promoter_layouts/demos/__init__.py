"""For `promoter demo --layout`: a framework's real consumer, its own delay, and how a job is passed to Promoter.

One file per framework, with a class that implements `promoter_demo.side_by_side.Framework`; `FRAMEWORKS` there lists
them.
"""
