"""Files of jobs, as the commands read and write them. A note beside an unfinished file records the progress."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from promoter_core import ConfigError, ExportedPage

FIRST_LINE = 65_536  # bytes; the header line of an export is shorter
STREAM = "-"


class Note:
    """The progress of work on a file, in a file beside it, so that the same command can resume."""

    def __init__(self, path: Path, ending: str) -> None:
        self._path = path.with_name(path.name + ending)

    def read(self) -> dict[str, Any]:
        """Return the note; empty without one."""
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, content: Mapping[str, Any]) -> None:
        new = self._path.with_name(self._path.name + "~")
        new.write_text(json.dumps(content), "utf-8")
        new.replace(self._path)

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink()


class ExportFile:
    """A file that an export writes, resuming where an earlier one stopped."""

    def __init__(self, name: str, about: Mapping[str, str], *, overwrite: bool) -> None:
        """`about` identifies the jobs: the store and the queue. Raises ConfigError."""
        self.cursor, self.jobs = "", 0
        self._path = Path(name)
        self._zip = name.endswith(".gz")
        self._about = dict(about)
        self._note: Note | None = None
        if name == STREAM:
            self._file: IO[bytes] = sys.stdout.buffer
            return
        try:
            if self._path.exists() and not self._path.is_file():  # for example a device or a pipe
                self._file = self._path.open("wb")
                return
            self._note = Note(self._path, ".exporting")
            self._file = self._go_on(self._note.read()) if self._path.exists() and not overwrite else self._anew()
        except OSError as exc:
            raise cannot("write", name, exc) from None

    def _anew(self) -> IO[bytes]:
        assert self._note is not None
        self._note.remove()
        return self._path.open("wb")

    def _go_on(self, note: Mapping[str, Any]) -> IO[bytes]:
        if not note:
            raise ConfigError(f"{self._path} exists already: give another name, or --overwrite")
        if {key: note.get(key) for key in self._about} != self._about:
            raise ConfigError(
                f"{self._path} is an unfinished export of queue {note.get('queue')!r} of {note.get('store')}: give "
                "another name, or --overwrite"
            )
        self.cursor, self.jobs = str(note["cursor"]), int(note["jobs"])
        file = self._path.open("r+b")
        if file.seek(0, 2) < note["bytes"]:
            file.close()
            raise ConfigError(f"{self._path} is shorter than the export left it: give --overwrite to start again")
        file.truncate(note["bytes"])
        file.seek(note["bytes"])
        return file

    def write(self, page: ExportedPage) -> None:
        """Add a page. Raises ConfigError when it cannot be written."""
        try:
            self._file.write(gzip.compress(page.lines, 6) if self._zip else page.lines)
            self._file.flush()
            if self._note is not None:
                progress = {"bytes": self._file.tell(), "jobs": page.jobs, "cursor": page.cursor}
                self._note.write(self._about | progress)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise cannot("write", str(self._path), exc) from None
        self.cursor, self.jobs = page.cursor, page.jobs
        if not page.cursor and self._note is not None:
            self._note.remove()

    def close(self) -> None:
        if self._file is not sys.stdout.buffer:
            self._file.close()


class ImportFile:
    """A file that an import reads, resuming after the lines that an earlier one handled."""

    def __init__(self, name: str, about: Mapping[str, str], *, skip: int) -> None:
        """`about` identifies the target: the store and the queue. Raises ConfigError."""
        self.skip, self.size = skip, 0  # `skip`: number of lines to skip
        self._note: Note | None = None
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if name == STREAM else Path(name).open("rb")  # noqa: SIM115
            if name != STREAM and Path(name).is_file():
                self.size = Path(name).stat().st_size
                self._note = Note(Path(name), ".importing")
            self._file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw)) if name.endswith(".gz") else self._raw
            self._first = self._file.readline(FIRST_LINE)
        except EOFError:
            self._first = b""
        except OSError as exc:
            raise cannot("read", name, exc) from None
        self._about = {**about, "header": self._first.decode("utf-8", "replace")}
        note = self._note.read() if self._note is not None and not skip else {}
        self.gone_on = bool(note) and {key: note.get(key) for key in self._about} == self._about
        if self.gone_on:
            self.skip = int(note["lines"])

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their ends."""
        if self._first:
            yield self._first
            yield from self._file

    def done(self, lines: int) -> None:
        """Record the progress beside the file, if possible."""
        if self._note is not None:
            try:
                self._note.write(self._about | {"lines": lines})
            except OSError:
                self._note = None

    def finish(self) -> None:
        if self._note is not None:
            self._note.remove()

    def read_bytes(self) -> int:
        """Return how much of `size` has been read."""
        return self._raw.tell() if self.size else 0

    def close(self) -> None:
        if self._raw is not sys.stdin.buffer:
            self._raw.close()


def cannot(do: str, name: str, exc: OSError) -> ConfigError:
    return ConfigError(f"cannot {do} {name}: {exc.strerror or exc}")
