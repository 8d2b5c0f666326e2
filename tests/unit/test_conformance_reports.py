"""What the kit says: of a broken obligation, of a skipped test, and at the end of a run."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from promoter_core.testing.conformance.obligations import LONGEST, obliges

WHERE, RULE = "Backend.unlock", "Never another holder's."

SUITE = """
import pytest
import pytest_asyncio

from promoter_core import connect
from promoter_core.testing.conformance import BackendContract


class TestMine(BackendContract):
    @pytest_asyncio.fixture
    async def backend(self):
        async with connect("memory://") as backend:
            yield backend


class TestTheirs(TestMine):
    kit_summary = False
"""


def said(**seen):
    with pytest.raises(AssertionError) as raised:
        obliges(WHERE, RULE, False, **seen)
    return str(raised.value).splitlines()[1:-1]


def test_a_short_value_is_shown_as_it_is():
    assert said(answer=[1, 2], expected=[1, 3]) == ["  answer: [1, 2]", "  expected: [1, 3]"]


def test_long_mappings_show_the_items_that_differ():
    expected = {f"job-{i}": {"traceparent": "0" * 40} for i in range(30)}
    seen = expected | {"job-29": {"tracestate": "a=1"}}
    (stream, _) = said(stream=seen, expected=expected)
    assert stream == (
        "  stream: differs from expected: ['job-29'] {'tracestate': 'a=1'}, expected {'traceparent': '"
        + "0" * 40
        + "'}"
    )


def test_long_sequences_show_the_items_that_differ():
    expected = [f"job-{i:03}" for i in range(100)]
    (arrived, _) = said(arrived=[*expected[:-1], "other"], expected=expected)
    assert arrived == "  arrived: differs from expected: [99] 'other', expected 'job-099'"
    (arrived, _) = said(arrived=expected, expected=expected[:-1])
    assert arrived == "  arrived: differs from expected: [99] 'job-099', expected nothing"


def test_many_differences_are_counted():
    (arrived, _) = said(arrived=["a" * 20] * 100, expected=["b" * 20] * 100)
    assert re.fullmatch(r"  arrived: differs from expected: \[0\] 'a+', expected 'b+'; .*; and \d+ more", arrived)
    assert len(arrived) < LONGEST + 150
    (arrived, _) = said(arrived=["a" * 2000], expected=["b" * 2000])
    assert len(arrived) < LONGEST + 100


def test_without_an_expectation_a_long_value_loses_its_middle():
    (jobs,) = said(jobs=["first", *("x" * 10 for _ in range(100)), "last"])
    assert jobs.startswith("  jobs: ['first', 'xxxxxxxxxx'")
    assert "'last'] (1417 characters)" in jobs


def test_a_closing_summary_says_what_the_skipped_tests_need(tmp_path):
    (tmp_path / "test_mine.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", "."]
    wanted = "kit_dead_letters or malformed or reached or hours_can"
    done = subprocess.run([*command, "-k", wanted], cwd=tmp_path, capture_output=True, text=True)
    _, _, summary = done.stdout.partition("Promoter's conformance kit")
    assert summary.splitlines()[1:5] == [
        "TestMine: 2 passed, 17 skipped",
        "     15 skipped: needs a backend that offers DeadLetterSupport",
        "      1 skipped: needs the fixture `leap`: async (queue, ms): advances the clock of the store by that many "
        "milliseconds",
        "      1 skipped: needs the fixture `unreachable`: a backend whose store cannot be reached",
    ]
    assert "TestTheirs" not in summary
