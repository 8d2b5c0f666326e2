"""For `promoter demo --layout`: a framework's real consumer, its own delay, and how a job is handed to Promoter.

A file a framework, with a class that `promoter_demo.side_by_side.Framework` describes; `FRAMEWORKS` there names them.
"""
