"""`JsonFormatter`: log lines as JSON, by the names of the Elastic Common Schema (ECS)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

ECS_VERSION = "8.11.0"
NAMES = {"code": "error.code"}  # fields that ECS names differently
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line. The `extra=` of a log call is at the top level, beside the fields of ECS."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": ECS_VERSION,
            "log.logger": record.name,
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error.type"] = record.exc_info[0].__name__
            line["error.message"] = str(record.exc_info[1])
            line["error.stack_trace"] = self.formatException(record.exc_info)
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line.setdefault(NAMES.get(name, name), value)
        return json.dumps(line, ensure_ascii=False, default=str)
