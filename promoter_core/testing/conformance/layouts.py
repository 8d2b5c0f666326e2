"""`LayoutSupport`: the keys follow the layout. layout_moves.py tests the layout itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from promoter_core.spi import Layout, LayoutSupport
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.obligations import obliges

WORKS_BY = "The backend's layout"


class LayoutsContract(ContractBase):
    async def test_the_backend_says_by_which_layout_it_works(self, kit: Kit) -> None:
        needs_support(kit, LayoutSupport)
        layout = kit.backend.layout
        obliges("LayoutSupport.layout", WORKS_BY, isinstance(layout, Layout), layout=layout)
        obliges("LayoutSupport.layout", WORKS_BY, kit.backend.layout == layout, again=kit.backend.layout)

    async def test_jobs_wait_and_arrive_where_the_layout_says(
        self, kit: Kit, stored_names: Callable[[], Awaitable[Iterable[str]]]
    ) -> None:
        needs_support(kit, LayoutSupport)
        keys = kit.backend.layout.keys_of(kit.queue)
        await kit.due("a")
        names = set(await stored_names())
        obliges("LayoutSupport.layout", WORKS_BY, _text(keys.delayed) in names, delayed=keys.delayed, names=names)
        obliges("LayoutSupport.layout", WORKS_BY, _text(keys.stream) not in names, target=keys.stream, names=names)
        await kit.drain(await kit.lead())
        names = set(await stored_names())
        obliges("LayoutSupport.layout", WORKS_BY, _text(keys.stream) in names, target=keys.stream, names=names)
        obliges("LayoutSupport.layout", WORKS_BY, _text(keys.delayed) not in names, delayed=keys.delayed, names=names)


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
