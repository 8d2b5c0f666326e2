"""`promoter ui`: a web page of all queues, whichever process leads them. The plugin provides the pages."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from promoter_core import Backend, ConfigError
from promoter_core.cli import logs, options, run_pages, session
from promoter_core.cli.arguments import Option
from promoter_core.cli.lasting import until_stopped
from promoter_core.cli.run import LogFormat
from promoter_core.cli.signals import stop_on_signals
from promoter_core.cli.times import parse_duration
from promoter_core.spi import host_port

log = logging.getLogger("promoter.ui")

LAST_PORT = 65_535
LONGEST_SESSION_S = 366 * 86_400


def ui(
    url: options.Url,
    queue: options.AnyQueues = None,
    layout: options.Layout = None,
    host: Annotated[str, Option("--host", envvar="PROMOTER_UI_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, Option("--port", envvar="PROMOTER_UI_PORT", help="The port to listen on; 0: any free port.")
    ] = 8080,
    token: Annotated[
        str | None,
        Option(
            "--token",
            envvar="PROMOTER_UI_TOKEN",
            help="The token that every page asks for. Set in the environment, it is hidden from other users.",
        ),
    ] = None,
    session_length: Annotated[
        str,
        Option("--session", envvar="PROMOTER_UI_SESSION", help="How long a sign-in is valid, such as 30m, 8h or 7d."),
    ] = "12h",
    allow_actions: Annotated[
        bool,
        Option(
            "--allow-actions",
            envvar="PROMOTER_UI_ALLOW_ACTIONS",
            help="Allow run now, reschedule, cancel and requeue. Needs a token.",
        ),
    ] = False,
    public: Annotated[
        bool, Option("--public", help="Show the pages to anybody who can reach the address, without a token.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        Option("--allow-host", metavar="NAME", help="A host name to accept without a token; repeat it for more."),
    ] = None,
    hide_data: Annotated[
        bool, Option("--hide-data", envvar="PROMOTER_UI_HIDE_DATA", help="Do not show the data of jobs.")
    ] = False,
    log_format: Annotated[
        LogFormat, Option("--log-format", envvar="PROMOTER_LOG_FORMAT", help="Format of the logs on stderr.")
    ] = LogFormat.TEXT,
) -> None:
    """Serve a web page of all queues, their jobs and their leaders. Promotes nothing."""
    logs.set_up_logging(log_format)
    if not 0 <= port <= LAST_PORT:
        raise ConfigError(f"--port must be a number from 0 to {LAST_PORT}, not {port}")
    session_s = parse_duration(session_length).total_seconds()
    if not 60 <= session_s <= LONGEST_SESSION_S:
        raise ConfigError(f"--session must be from 1m to 366d, not {session_length!r}")
    backend = session.registry().backend(url, layout=layout)
    session.check_lasting(backend, url)
    app = run_pages.page(
        "ui",
        backend,
        queue or ["*"],
        host,
        {
            "token": token or "",
            "actions": _word(allow_actions),
            "public": _word(public),
            "data": _word(not hide_data),
            "host": "+".join([host, *(allow_host or [])]),
            "always": "yes",
            "session": f"{session_s:.0f}",
        },
    )
    asyncio.run(_serve(backend, app, host_port(host, port), exposed=public and not token))


def _word(on: bool) -> str:
    return "yes" if on else "no"


async def _serve(backend: Backend, app: Any, address: str, *, exposed: bool) -> None:
    from promoter_core.web import serving

    stop = asyncio.Event()
    stop_on_signals(stop)

    async def show() -> None:
        await run_pages.begin([app])
        await asyncio.Event().wait()  # wait while the pages are served

    async with serving(address, [], pages={"ui": app}) as at:
        log.info("the page is at %s/ui/", at)
        if exposed:
            log.warning("anybody who can reach %s can see all jobs: no token is set", address)
        await until_stopped(backend, show, stop, log, first_end=app.aclose)
    log.info("stopped")
