"""The log of a command, on stderr."""

from __future__ import annotations

import logging

from promoter_core.cli import session


def set_up_logging(log_format: str) -> None:
    """Log to stderr: INFO and above, DEBUG of our own loggers with --debug."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if log_format == "json":
        from promoter_core.cli.json_logs import JsonFormatter

        formatter = JsonFormatter()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("promoter").setLevel(logging.DEBUG if session.debug else logging.INFO)
