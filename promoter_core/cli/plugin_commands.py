"""The commands of Promoter's own plugins, found without `importlib.metadata` and the registry, which import slowly.

An entry point does not say which commands its module registers, so a plugin of a third party has to be imported.
Anything else than Promoter's own plugins in plain folders is left to the registry.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "promoter"
OWN = {  # the commands that each module of Promoter's own entry points registers
    "promoter_memory.plugin": "",
    "promoter_redis.plugin": "",
    "promoter_glide.plugin": "",
    "promoter_logging.plugin": "",
    "promoter_prometheus.plugin": "",
    "promoter_opentelemetry.plugin": "",
    "promoter_statsd.plugin": "",
    "promoter_webhook.plugin": "",
    "promoter_serializers.plugin": "",
    "promoter_layouts.plugin": "",
    "promoter_pubsub.plugin": "",
    "promoter_ui.plugin": "",
    "promoter_demo.plugin": "demo",
    "promoter_bench.plugin": "bench",
}


def own_commands() -> list[str] | None:
    """Return the names in order; None if only the registry can tell, because of what else is installed."""
    if [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")] != [PathFinder]:
        return None
    found: list[str] = []
    cores = 0
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  # pathlib is slow to import
        except FileNotFoundError:
            continue
        except OSError:  # a zip file can contain distributions too
            return None
        for name in names:
            if name.lower().endswith((".dist-info", "egg-info")):
                cores += name.lower().replace("-", "_").replace(".", "_").startswith("promoter_core_")
                found += _modules(f"{folder or '.'}/{name}/entry_points.txt")
    # Of two distributions with the same name, the first on the path counts; here, the registry decides.
    if cores != 1 or not OWN.keys() >= set(found):
        return None
    return sorted(OWN[module] for module in set(found) if OWN[module])


def _modules(path: str) -> Iterator[str]:
    """Yield the modules of the group's entry points in a file; nothing without one."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # as above
            data = file.read()
    except OSError:
        return
    if GROUP.encode() not in data:
        return
    section = ""
    for line in map(str.strip, data.decode(errors="replace").splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == GROUP and line and not line.startswith("#"):
            yield line.partition("=")[2].strip()
