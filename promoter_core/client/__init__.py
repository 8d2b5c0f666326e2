"""Scheduling and cancelling delayed jobs. Private; `promoter_core` offers `DelayedQueue` and `Job`."""
