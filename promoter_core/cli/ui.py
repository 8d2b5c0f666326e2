"""`promoter ui`: a web page of all queues, whoever leads them. The pages are the plugin's."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from promoter_core import Backend, ConfigError, TransientError
from promoter_core.cli import logs, options, run_pages, session
from promoter_core.cli.arguments import Option
from promoter_core.cli.run import LogFormat
from promoter_core.cli.signals import leave_what_hangs, stop_on_signals
from promoter_core.spi import cancel_and_wait, run_within

log = logging.getLogger("promoter.ui")

CLOSE_S = 2.0  # for the backend to close
THREADS_S = 2.0  # and then for what hangs in threads
RETRY_S = 1.0  # between tries to reach the store at the start
LAST_PORT = 65_535


def ui(
    url: options.Url,
    queue: Annotated[
        list[str] | None,
        Option(
            "--queue",
            "-q",
            envvar="PROMOTER_QUEUE",
            help="A queue, or a pattern such as 'mail-*'; give it again for more.",
            show_default="*",
        ),
    ] = None,
    layout: options.Layout = None,
    host: Annotated[str, Option("--host", envvar="PROMOTER_UI_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option("--port", envvar="PROMOTER_UI_PORT", help="The port to listen on.")] = 8080,
    token: Annotated[
        str | None,
        Option(
            "--token",
            envvar="PROMOTER_UI_TOKEN",
            help="Every page asks for it. In the environment, other users of the machine do not see it.",
        ),
    ] = None,
    allow_actions: Annotated[
        bool,
        Option(
            "--allow-actions",
            envvar="PROMOTER_UI_ALLOW_ACTIONS",
            help="Run now, reschedule, cancel and requeue. Needs a token.",
        ),
    ] = False,
    public: Annotated[
        bool, Option("--public", help="Show the pages to everybody who reaches the address, without a token.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        Option("--allow-host", metavar="NAME", help="A name to answer to without a token; give it again for more."),
    ] = None,
    hide_data: Annotated[
        bool, Option("--hide-data", envvar="PROMOTER_UI_HIDE_DATA", help="Do not show the data of jobs.")
    ] = False,
    log_format: Annotated[
        LogFormat, Option("--log-format", envvar="PROMOTER_LOG_FORMAT", help="Logs, on stderr.")
    ] = LogFormat.TEXT,
) -> None:
    """Serve a web page of all queues, their jobs and their leaders. Promotes nothing."""
    logs.set_up_logging(log_format)
    if not 0 < port <= LAST_PORT:
        raise ConfigError(f"--port must be a number from 1 to {LAST_PORT}, not {port}")
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
        },
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asyncio.run(_serve(backend, app, address, exposed=public and not token))


def _word(on: bool) -> str:
    return "yes" if on else "no"


async def _serve(backend: Backend, app: Any, address: str, *, exposed: bool) -> None:
    from promoter_core.web import serving

    stop = asyncio.Event()
    stop_on_signals(stop)
    async with serving(address, [], pages={"ui": app}):
        opening = asyncio.create_task(_open(backend, app), name="promoter-ui-open")
        stopping = asyncio.create_task(stop.wait())
        log.info("the page is at http://%s/ui/", address)
        if exposed:
            log.warning("everybody who reaches %s can see all jobs: there is no token", address)
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()  # raises PermanentError
                await stopping
        finally:
            await app.aclose()
            await cancel_and_wait(stopping)
            await cancel_and_wait(opening)
            try:
                await run_within(backend.close(), CLOSE_S)
            except TimeoutError:
                log.warning("the backend did not close in %g s; its connections end with the process", CLOSE_S)
            if stop.is_set():
                leave_what_hangs(THREADS_S, 0)
    log.info("stopped")


async def _open(backend: Backend, app: Any) -> None:
    """Begin as soon as the store answers. Raises PermanentError."""
    complained = False
    while True:
        try:
            await backend.open()
            break
        except TransientError as exc:
            if not complained:
                log.warning("%s; trying again", exc)
                complained = True
            await asyncio.sleep(RETRY_S)
    await run_pages.begin([app])
