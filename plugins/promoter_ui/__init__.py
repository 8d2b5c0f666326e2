"""The web page of queues: `promoter ui`, `promoter run --page ui`, and `asgi_app` for applications.

`app.py` has the pages, `views.py` their contents, `board.py` all queues, `jobs.py` the jobs of one, `charts.py` the
drawings, `guard.py` access control, `text.py` the display of foreign text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promoter_ui.app import Ui, asgi_app

__all__ = ["Ui", "asgi_app"]


def __getattr__(name: str) -> Any:
    """Import names on demand: listing plugins must not import starlette."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from promoter_ui import app

    return getattr(app, name)
