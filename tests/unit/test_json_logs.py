"""Log lines as JSON: one object a line, by the names of ECS, with a call's own fields at the top level."""

from __future__ import annotations

import json
import logging
from datetime import datetime

import pytest

from promoter_core import PermanentError, Promoter, TransientError
from promoter_core.cli.json_logs import JsonFormatter
from promoter_core.testing import Fault, FaultyBackend


def formatted(record):
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def made(message, *args, extra=None, exc_info=None):
    return logging.getLogger("promoter.x").makeRecord(
        "promoter.x", logging.WARNING, __file__, 1, message, args, exc_info, extra=extra
    )


def test_a_line_has_the_fields_of_ecs():
    line = formatted(made("two\nlines, %d %s", 7, "ü"))
    assert list(line)[:4] == ["@timestamp", "log.level", "message", "ecs.version"]
    assert datetime.fromisoformat(line["@timestamp"]).tzinfo is not None
    assert (line["log.level"], line["log.logger"]) == ("warning", "promoter.x")
    assert line["message"] == "two\nlines, 7 ü"
    assert len(line) == 5, "and nothing that Python's logging keeps for itself"


def test_what_a_call_gives_is_at_the_top_level():
    extra = {"queue": "q {x}", "holder": "pod-1", "seconds": 3.2, "code": "READONLY", "of": object, "bad": "\udcff"}
    line = formatted(made("m", extra=extra))
    assert (line["queue"], line["holder"], line["seconds"]) == ("q {x}", "pod-1", 3.2)
    assert line["error.code"] == "READONLY"
    assert "code" not in line
    assert line["of"] == str(object), "what is no JSON is shown as text"


def test_a_call_cannot_replace_the_fields_of_ecs():
    line = formatted(made("m", extra={"log.level": "nonsense", "@timestamp": 1}))
    assert line["log.level"] == "warning"
    assert line["@timestamp"] != 1


def test_an_exception_is_three_fields():
    try:
        raise ValueError("no\nluck")
    except ValueError as exc:
        line = formatted(made("m", exc_info=(type(exc), exc, exc.__traceback__)))
    assert (line["error.type"], line["error.message"]) == ("ValueError", "no\nluck")
    assert "Traceback" in line["error.stack_trace"]


async def test_a_promoters_lines_name_the_queue_and_the_code(backend, clock, caplog):
    caplog.set_level(logging.DEBUG)
    gone, no = TransientError("gone", code="CONNECTION"), PermanentError("no", code="NOPERM")
    faults = [Fault("promote", nth=2, error=lambda: gone), Fault("promote", nth=5, error=lambda: no)]
    promoter = Promoter(FaultyBackend(backend, *faults), "mails", clock=clock)
    with pytest.raises(PermanentError):
        await promoter.run()
    lines = [formatted(record) for record in caplog.records if record.name == "promoter"]
    about = [line for line in lines if "mails" in line["message"]]
    assert len(about) >= 4
    assert all(line["queue"] == "mails" for line in about)
    assert {line["error.code"] for line in about if "error.code" in line} == {"CONNECTION", "NOPERM"}
    assert any(line.get("outcome") == "acquired" for line in about)
