"""The pages for `promoter ui` and `promoter run --page ui`, with text options."""

from __future__ import annotations

import os

from promoter_core import ConfigError
from promoter_core.spi import PageContext, sink_options
from promoter_ui.app import Ui, asgi_app
from promoter_ui.board import IDLE_S
from promoter_ui.guard import LONGEST_SESSION_S, SESSION_S, SHORTEST_SESSION_S
from promoter_ui.listen import check_exposed

WORDS = {"yes": True, "no": False}


def page(
    context: PageContext,
    token: str = "",
    actions: str = "no",
    public: str = "no",
    data: str = "yes",
    host: str = "",
    always: str = "no",
    session: str = "",
) -> Ui:
    """Return the pages.

    `token` defaults to $PROMOTER_UI_TOKEN. `host` has additional host names to answer to, joined by `+`. `always`: read
    the store even if nobody looks. `session`: for how many seconds a sign-in is valid. Raises ConfigError.
    """
    known = token or os.environ.get("PROMOTER_UI_TOKEN", "") or None
    allow_actions, is_public, is_always = _word("actions", actions), _word("public", public), _word("always", always)
    check_exposed(context.host, known, public=is_public, allow_actions=allow_actions)
    app = asgi_app(
        context.backend,
        context.queues,
        allow_actions=allow_actions,
        token=known,
        public=is_public,
        allowed_hosts=[name for name in host.split("+") if name],
        show_data=_word("data", data),
        session_s=_session_s(session) if session else SESSION_S,
        idle_s=float("inf") if is_always else IDLE_S,
    )
    app.wait_for_store()
    return app


def _session_s(text: str) -> float:
    return sink_options.number("page 'ui'", "session", text, SHORTEST_SESSION_S, LONGEST_SESSION_S)


def _word(option: str, text: str) -> bool:
    if text not in WORDS:
        raise ConfigError(f"page 'ui': {option} must be yes or no, not {text!r}")
    return WORDS[text]
