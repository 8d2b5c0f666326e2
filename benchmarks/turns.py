"""How long the turns of an event loop take, and with which stack.

A turn is one round of the loop: whatever becomes ready meanwhile waits for its end. Its length is counted in CPU time
of the loop's thread, so that other work on the machine does not show. What another thread of this process computes,
holding the interpreter's lock, is in `Turns.process_s`: the CPU time of the whole process between two wake-ups of a
task that sleeps for a millisecond.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from typing import Any

LONG_S = 0.010  # of CPU time: then the loop's stack is looked at
LOOK_S = 0.002  # between looks
FRAMES = 6  # innermost ones that are kept of a stack


class Turns(asyncio.SelectorEventLoop):
    """An event loop that measures itself. `watch` shows the stacks of long turns, too."""

    def __init__(self) -> None:
        super().__init__()
        self.longest_s = self.process_s = self.collected_s = 0.0
        self.stacks: dict[str, int] = {}  # of long turns, by how often they were seen
        self._began_s = float("inf")
        self._collection_s = 0.0
        gc.callbacks.append(self._collecting)

    def reset(self) -> None:
        self.longest_s = self.process_s = self.collected_s = 0.0
        self.stacks = {}

    def _run_once(self) -> None:
        self._began_s = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        took_s = time.thread_time() - self._began_s
        self._began_s = float("inf")
        self.longest_s = max(self.longest_s, took_s)

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collection_s = time.thread_time()
        else:
            self.collected_s = max(self.collected_s, time.thread_time() - self._collection_s)

    async def tick(self) -> None:
        """Measure `process_s`, until cancelled."""
        while True:
            began_s = time.process_time()
            await asyncio.sleep(0.001)
            self.process_s = max(self.process_s, time.process_time() - began_s - 0.001)

    def watch(self) -> None:
        """Look at the stack of each turn that takes long, in a thread."""
        loop_thread = threading.get_ident()
        clock = time.pthread_getcpuclockid(loop_thread)

        def look() -> None:
            while not self.is_closed():
                time.sleep(LOOK_S)
                if time.clock_gettime(clock) - self._began_s < LONG_S:
                    continue
                frame = sys._current_frames().get(loop_thread)
                where = traceback.extract_stack(frame)[-FRAMES:]
                shown = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(where))
                self.stacks[shown] = self.stacks.get(shown, 0) + 1

        threading.Thread(target=look, name="turns", daemon=True).start()


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, on a loop that measures itself."""
    with asyncio.Runner(loop_factory=Turns) as runner:
        runner.run(main)
