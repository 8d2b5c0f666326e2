"""A PostgreSQL server for the tests, with Debian's binaries, started on a free port and stopped at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers import free_port

NAME = "postgres"  # in PROMOTER_REQUIRE
USER = "postgres"
EXAMPLE = Path(__file__).parents[1] / "docs/examples/promoter-postgres"


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: the newest of Debian's, or that of PATH; None when there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which("initdb")
    folders += [Path(found).resolve().parent] if found else []
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class PostgresServer:
    """One server. It refuses to run as root, and is then run by the user `postgres`."""

    def __init__(self, **settings: str) -> None:
        folder = binaries()
        assert folder is not None, "PostgreSQL is not installed"
        self._folder = folder
        self.port = free_port()
        self.dir = Path(tempfile.mkdtemp(prefix="promoter-test-"))
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.dir),
            "shared_buffers": "16MB",
        } | settings
        self._user = USER if os.getuid() == 0 else None
        if self._user:
            shutil.chown(self.dir, self._user)
        auth = ["--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run([folder / "initdb", "-D", self.dir / "data", *auth])

    @property
    def url(self) -> str:
        return f"postgres://{USER}@127.0.0.1:{self.port}/{USER}"

    def start(self) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        self._control("start", "-o", options, "-l", str(self.dir / "log"))

    def restart(self) -> None:
        """At once: connections are cut, and what was not committed is gone."""
        self._control("stop", "-m", "immediate")
        self.start()

    def pause(self, paused: bool) -> None:
        """Stop or continue all of its processes."""
        lines = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True).stdout.split()
        for pid in (self.pid, *map(int, lines)):
            os.kill(pid, signal.SIGSTOP if paused else signal.SIGCONT)

    @property
    def pid(self) -> int:
        return int((self.dir / "data" / "postmaster.pid").read_text().splitlines()[0])

    def sql(self, text: str) -> str:
        at = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", USER]
        return self._run([self._folder / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *at, "-c", text])

    def stop(self) -> None:
        subprocess.run(
            self._as_user([self._folder / "pg_ctl", "-D", self.dir / "data", "stop", "-m", "immediate"]),
            capture_output=True,
        )
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _control(self, *words: str) -> None:
        self._run([self._folder / "pg_ctl", "-D", self.dir / "data", "-w", *words])

    def _as_user(self, command: Sequence[object]) -> list[str]:
        return [*(["runuser", "-u", self._user, "--"] if self._user else []), *map(str, command)]

    def _run(self, command: Sequence[object]) -> str:
        # To a file and not to a pipe: the server that pg_ctl leaves behind would keep a pipe open.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(self._as_user(command), stdout=out, stderr=subprocess.STDOUT, cwd="/")
            out.seek(0)
            text = out.read()
        assert done.returncode == 0, f"{command}: {text}"
        return text
