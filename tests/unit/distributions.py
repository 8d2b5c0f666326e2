"""Fake distributions with plugins, on disk, and a plugin that is an object."""

from __future__ import annotations

from promoter_core.spi import BackendSpec, SinkSpec, hookimpl

GOOD = """
from promoter_core.spi import BackendSpec, SinkSpec, hookimpl
from promoter_memory.backend import MemoryBackend

@hookimpl
def promoter_register_backends():
    yield BackendSpec(name="toy", schemes=("toy",), summary="a toy", target="{module}:open_toy")

@hookimpl
def promoter_register_event_sinks():
    return [SinkSpec(name="box", summary="a box", target="{module}:Box", options=("size", "colour"))]

def open_toy(url):
    backend = MemoryBackend()
    backend.path = url.path
    return backend

class Box:
    def __init__(self, size="1", colour="red"):
        self.size, self.colour = size, colour

    async def emit(self, queue, jobs):
        pass

    async def close(self):
        pass
"""

# A command whose module is missing: it can be listed, and not run.
COMMAND = """
from promoter_core.spi import CommandSpec, hookimpl
@hookimpl
def promoter_register_commands():
    yield CommandSpec(name="vacuum", summary="compact the file", target="no_such_module:vacuum")
"""


def install(site, dist, version, entry, source):
    """A distribution with one module `plug_<entry>` and one entry point of the group `promoter`."""
    module = f"plug_{dist}_{entry}".replace("-", "_")
    (site / f"{module}.py").write_text(source.replace("{module}", module))
    info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[promoter]\n{entry} = {module}\n")
    return module


class Plugin:
    """A plugin of a test's own."""

    def __init__(self, *specs):
        self.specs = specs

    @hookimpl
    def promoter_register_backends(self):
        return [s for s in self.specs if isinstance(s, BackendSpec)]

    @hookimpl
    def promoter_register_metrics_sinks(self):
        return [s for s in self.specs if isinstance(s, SinkSpec)]
