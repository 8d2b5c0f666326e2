"""The `logging` sinks: promoted jobs and ticks as lines of Python's logging."""
