"""Runs each peer in a separate environment, which is made under .venv/peers when it is first needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ENVIRONMENTS = Path(__file__).parents[2] / ".venv" / "peers"
PATIENCE_S = 60.0

# What to install; None: it runs in this environment.
PEERS: dict[str, list[str] | None] = {
    "promoter": None,
    "chasquimq": None,
    "arq": ["arq"],
    "saq": ["saq[redis]", "typing_extensions"],
    "streaq": ["streaq"],
    "rq": ["rq"],
    "taskiq": ["taskiq-redis"],
    "dramatiq": ["dramatiq[redis]"],
    "huey": ["huey", "redis"],
    "celery": ["celery[redis]"],
    "bullmq": ["bullmq"],
}


@dataclass
class Result:
    """Of one peer: how late its jobs were started, or what went wrong."""

    peer: str
    version: str = ""
    late_ms: tuple[float, ...] = ()
    took_s: float = 0.0  # from the first due time to the last start
    error: str = ""

    def percentile(self, part: float) -> float:
        return self.late_ms[min(int(len(self.late_ms) * part), len(self.late_ms) - 1)]


def python_of(peer: str) -> Path:
    """The interpreter that has the peer installed. Raises CalledProcessError when it cannot be installed."""
    packages = PEERS[peer]
    if packages is None:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        command: list[str | Path] = [python, "-m", "pip", "install", "-q", *packages]
        subprocess.run(command, check=True, capture_output=True, env=alone())
        (folder / ".ready").touch()
    return python


def alone() -> dict[str, str]:
    """What an interpreter with its own packages gets: it sees none of ours."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(peer: str, url: str, jobs: int, lead_s: float, spread_s: float) -> Result:
    """Jobs that become due `lead_s` from now and over `spread_s` seconds. Never raises: a failure is a result."""
    try:
        python = python_of(peer)
    except (subprocess.CalledProcessError, OSError) as exc:
        return Result(peer, error=f"cannot be installed: {_last_line(getattr(exc, 'stderr', b''))}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command: list[str | Path] = [
            python,
            FOLDER / f"with_{peer}.py",
            url,
            out,
            str(jobs),
            str(lead_s),
            str(spread_s),
        ]
        theirs = None if PEERS[peer] is None else alone()
        patience_s = PATIENCE_S + lead_s + spread_s
        try:
            done = subprocess.run(command, capture_output=True, timeout=patience_s, cwd=FOLDER, env=theirs, check=False)
            said = _last_line(done.stderr)
        except subprocess.TimeoutExpired as exc:
            said = f"not done after {exc.timeout:g} s; {_last_line(exc.stderr or b'')}"
        if not out.exists():
            return Result(peer, error=said or "it ended without a result")
        result = json.loads(out.read_text())
    return Result(
        peer,
        result["version"],
        tuple(result.get("late_ms", ())),
        result.get("took_s", 0.0),
        result.get("error", ""),
    )


def run_all(url: str, flush: object, jobs: int, lead_s: float, spread_s: float) -> Iterator[Result]:
    """Every peer on an empty server, one after the other."""
    for peer in PEERS:
        flush()  # type: ignore[operator]
        yield run(peer, url, jobs, lead_s, spread_s)


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
