"""Old and new versions of redis-py: peers pin old ones, so users have all. `make` puts some into .venv/redis-py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import WORKERS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv" / "redis-py"
VERSIONS = sorted(p.name for p in FOLDER.iterdir()) if FOLDER.is_dir() else []

# Files under tests/, and which of their tests: each part is one run of pytest, beside the others.
PARTS = {
    "kit": (["contract/test_redis.py"], "RedisPy and valkey-9.1"),
    "faults": (
        ["server/test_lost_connections.py", "server/test_cluster_faults.py"],
        "not cluster or (whole_cluster and not glide)",
    ),
    "behaviours": (
        [
            f"server/test_{name}.py"
            for name in ("behaviours", "running", "connections", "moved", "security", "sentinel")
        ],
        "",
    ),
}

pytestmark = [
    pytest.mark.server,
    pytest.mark.whole_matrix,
]


@pytest.mark.skipif(not VERSIONS, reason="no other versions of redis-py in .venv/redis-py")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.timeout(590)
def test_the_kit_and_the_behaviours_hold_on_redis_py(part, version):
    files, chosen = PARTS[part]
    here = [str(ROOT / "tests" / file) for file in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *here, "-k", chosen]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"PROMOTER_SERVERS": "valkey-9.1"}
    run_number = WORKERS - 1 - VERSIONS.index(version) * len(PARTS) - list(PARTS).index(part)
    env |= {"PYTEST_XDIST_WORKER": f"gw{run_number}"}  # for ports that no other process of this run takes
    path = (FOLDER / version, ROOT, ROOT / "backends", ROOT / "plugins")  # of this tree, whichever is installed
    env |= {"PYTHONPATH": os.pathsep.join(map(str, path))}
    shown = subprocess.run(
        [sys.executable, "-c", "import redis, promoter_redis as p; print(redis.__version__, p.__file__)"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [version, str(ROOT / "backends" / "promoter_redis" / "__init__.py")]
    run = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:]
    assert " passed" in run.stdout
