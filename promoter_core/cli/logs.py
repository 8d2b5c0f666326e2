"""The log of a command, on stderr."""

from __future__ import annotations

import logging

from promoter_core.cli import session
from promoter_core.cli.json_logs import JsonFormatter


def set_up_logging(log_format: str) -> None:
    """Log to stderr: INFO and above, DEBUG of our own loggers with --debug."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("promoter").setLevel(logging.DEBUG if session.debug else logging.INFO)
