"""Old and new versions of redis-py: peers pin old ones, so users have all. `make` puts some into .venv/redis-py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv" / "redis-py"
VERSIONS = sorted(p.name for p in FOLDER.iterdir()) if FOLDER.is_dir() else []

WHOLE = ("behaviours", "running", "connections", "lost_connections", "moved", "security", "sentinel")

pytestmark = pytest.mark.server


@pytest.mark.skipif(not VERSIONS, reason="no other versions of redis-py in .venv/redis-py")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.timeout(590)
def test_the_kit_and_the_behaviours_hold_on_redis_py(version):
    files = (*(f"server/test_{name}.py" for name in WHOLE), "server/test_cluster_faults.py", "contract/test_redis.py")
    here = [str(ROOT / "tests" / f) for f in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", *here]
    command += ["--dist", "loadscope"]  # they wait more than they work
    chosen = (*(f"test_{name}" for name in WHOLE), "(whole_cluster and not glide)", "(RedisPy and valkey-9.1)")
    command += ["-k", " or ".join(chosen)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"PROMOTER_SERVERS": "valkey-9.1"}
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
