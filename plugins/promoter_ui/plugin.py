"""Registers the pages that `promoter ui` and `promoter run --page ui` serve."""

from collections.abc import Iterable

from promoter_core.spi import PageSpec, hookimpl


@hookimpl
def promoter_register_pages() -> Iterable[PageSpec]:
    yield PageSpec(
        name="ui",
        summary="queues, jobs and leaders, live, at /ui",
        target="promoter_ui.page:page",
        options=("token", "actions", "public", "data", "host", "always", "session"),
        requires=("aiohttp", "jinja2", "starlette"),
        install="promoter-core[ui]",
    )
