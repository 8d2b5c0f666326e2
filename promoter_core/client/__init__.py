"""Delayed jobs: scheduled, seen, changed, retried, moved to another store. Private; `promoter_core` has the names."""
