"""`asgi_app`: the pages, as an ASGI application. `views.py` has their contents, `guard.py` controls access."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from promoter_core import Backend, ConfigError, JobError, JobOutcome, PermanentError, PromoterError, TransientError
from promoter_core.spi import Clock, run_within
from promoter_ui import jobs, text, views
from promoter_ui.board import IDLE_S, Board
from promoter_ui.guard import HEADERS, PLACES, SESSION_S, Guard, Refused
from promoter_ui.render import render

log = logging.getLogger("promoter.ui")

LIVE_S = 2.0  # time between two updates
STREAMS = 64  # maximum concurrent streams of updates
STREAM_S = 15.0  # length of a stream; then the page opens another. A server may wait for open streams at shutdown
ANSWER_S = 10.0  # maximum wait for the store

ASSETS = {"ui.css": "text/css", "ui.js": "text/javascript", "ui.svg": "image/svg+xml"}
LIVE = {"overview": views.overview, "leaders": views.leaders, "queue": views.queue}
OPEN = ("login", *ASSETS)  # pages that need no token
DONE = {
    JobOutcome.PROMOTED: "The job is in the stream now.",
    JobOutcome.MOVED: "The job has a new due time.",
    JobOutcome.REMOVED: "The job is cancelled.",
    JobOutcome.NOT_FOUND: "Nothing was changed: no such job is waiting.",
    JobOutcome.ALREADY_PROMOTED: "Nothing was changed: the job was promoted already.",
}
SAID = {str(outcome): said for outcome, said in DONE.items()} | {
    "due-now": "The job is due now, but not in the stream: the stream is full, or the job is malformed.",
    "requeued": "The dead letter is in the stream again.",
    "gone": "Nothing was changed: this dead letter no longer exists.",
}

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]


def asgi_app(
    backend: Backend,
    queues: str | Sequence[str] = "*",
    *,
    allow_actions: bool = False,
    token: str | None = None,
    trusted: bool = False,
    public: bool = False,
    allowed_hosts: Sequence[str] = (),
    show_data: bool = True,
    session_s: float = SESSION_S,
    idle_s: float = IDLE_S,
    live_s: float = LIVE_S,
    clock: Clock | None = None,
) -> Ui:
    """Return an ASGI application with the pages. It can be mounted anywhere: all of its links are relative.

    `queues` are names or patterns; no other queue is shown. Without `allow_actions`, nothing can be changed. With a
    `token`, every page asks for it; a sign-in is valid for `session_s` seconds. `trusted` says that the mounting
    application authenticates requests, so actions need no token. Without a token, it answers only to `localhost`, IP
    addresses and `allowed_hosts`, or with `public` to all names. `show_data=False` hides the data of jobs. The store is
    read while somebody looks and for `idle_s` seconds more; a page is updated every `live_s` seconds. `backend` is
    open; call `await app.aclose()` at the end. Raises ConfigError.
    """
    guard = Guard(
        token=token,
        allow_actions=allow_actions,
        trusted=trusted,
        hosts=allowed_hosts,
        public=public,
        session_s=session_s,
    )
    return Ui(Board(backend, queues, idle_s=idle_s, clock=clock), guard, show_data=show_data, live_s=live_s)


class Ui:
    """The pages, as returned by `asgi_app`."""

    def __init__(self, board: Board, guard: Guard, *, show_data: bool, live_s: float) -> None:
        """Private: call `asgi_app`."""
        self._board, self._guard = board, guard
        self._show_data, self._live_s = show_data, live_s
        self._streams = 0
        self._is_open = True
        self._closing = asyncio.Event()
        self._app = Starlette(
            routes=[
                Route("/", self._live_page("overview")),
                Route("/leaders", self._live_page("leaders")),
                Route("/queue", self._live_page("queue", views.waiting)),
                Route("/job", self._job),
                Route("/dead", self._dead),
                Route("/events", self._events),
                Route("/act", self._act, methods=["POST"]),
                Route("/login", self._login, methods=["GET", "POST"]),
                Route("/logout", self._logout, methods=["POST"]),
                *(Route(f"/{name}", _asset(name)) for name in ASSETS),
            ],
            exception_handlers={
                Refused: self._on_error,
                PromoterError: self._on_error,
                TimeoutError: self._on_error,
                HTTPException: self._on_error,
            },
        )

    def wait_for_store(self) -> None:
        """Have every page say, until `aopen`, that the backend is not open yet."""
        self._is_open = False

    async def aopen(self) -> None:
        """Handle that the backend is open. With an infinite `idle_s`, read the store from now on, to record history."""
        self._is_open = True
        if self._board.is_endless:
            await self._board.look()

    async def aclose(self) -> None:
        """End pending requests, and stop reading the store. The backend stays open. Idempotent."""
        self._closing.set()
        await self._board.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in ours if pair[0] not in given)]
            await send(message)

        refusal = self._refusal(request)
        await (self._app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        try:
            self._guard.check_host(request)
            place = request.scope["path"].rpartition("/")[
                2
            ]  # the path that is routed; `request.url` depends on the Host header
            if place in OPEN:
                return None
            known = self._guard.knows(request)
        except Refused as exc:
            return PlainTextResponse(f"{exc}\n", exc.status, exc.headers)
        if known:
            return None if self._is_open else self._not_yet(request)
        if request.method == "GET" and place != "events" and "text/html" in request.headers.get("accept", "text/html"):
            asked = request.scope["query_string"].decode("latin-1")
            return _go(text.link("login", to=f"{place}?{asked}" if asked else place))
        return PlainTextResponse("a token is required: Authorization: Bearer …\n", 401, {"www-authenticate": "Bearer"})

    def _not_yet(self, request: Request) -> Response:
        values = {"heading": "Please wait", "problem": "The store has not answered yet."}
        response = self._page(request, "error", values, 503)
        response.headers["refresh"] = f"{LIVE_S:.0f}"
        return response

    def _page(self, request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
        form, cookie = self._guard.form_token(request)
        common = {
            "here": "",
            "live": "",
            "again": "",
            "message": SAID.get(request.query_params.get("done", ""), ""),
            "form": form,
            "has_token": self._guard.has_token,
            "known": self._guard.knows(request),
            "allow_actions": self._guard.allow_actions,
        }
        html = render(template, common | values).encode("utf-8", "backslashreplace")
        response = Response(html, status, media_type="text/html")
        if cookie is not None:
            response.headers.append("set-cookie", cookie)
        return response

    def _live_page(self, name: str, more: Any = None) -> Endpoint:
        async def page(request: Request) -> Response:
            params = _params(request)
            await self._board.look()
            values = {} if more is None else await _soon(more(self._board, params))
            values |= await _soon(LIVE[name](self._board, params))
            wanted = {key: value for key, value in params.items() if key != "done"}
            live = text.link("events", **(wanted | {"view": name}))
            here = text.link("./" if name == "overview" else name, **wanted)
            return self._page(
                request, name, values | {"here": name, "live": live, "again": here, "fragment": f"live_{name}.html"}
            )

        return page

    async def _job(self, request: Request) -> Response:
        values = await _soon(views.job(self._board, _params(request), show_data=self._show_data))
        return self._page(request, "job", values, 404 if values["job"] is None else 200)

    async def _dead(self, request: Request) -> Response:
        return self._page(
            request, "dead", await _soon(views.dead(self._board, _params(request), show_data=self._show_data))
        )

    async def _events(self, request: Request) -> Response:
        params = _params(request)
        name = params.pop("view", "")
        if name not in LIVE:
            raise HTTPException(404)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")  # without writes, a disconnect is never noticed
        if self._streams >= STREAMS:
            raise Refused("too many open pages receive updates: reload this page for current figures", 503)
        return StreamingResponse(
            self._updates(name, params),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    async def _updates(self, name: str, params: dict[str, str]) -> AsyncIterator[str]:
        """Yield the live part of a page whenever it changes."""
        self._streams += 1
        before: str | None = None
        until_s = asyncio.get_running_loop().time() + STREAM_S
        try:
            while not self._closing.is_set():
                await self._board.look()
                try:
                    html: str | None = render(f"live_{name}", await _soon(LIVE[name](self._board, params)))
                except (PromoterError, TimeoutError) as exc:
                    log.debug("no update of the page %s: %s", name, exc)
                    html = before
                # Send a comment if nothing has changed, so that a disconnect is noticed.
                yield f"data: {json.dumps(html)}\n\n" if html is not None and html != before else ": \n\n"
                before = html
                with contextlib.suppress(TimeoutError):
                    await run_within(self._closing.wait(), self._live_s)
                if asyncio.get_running_loop().time() >= until_s:
                    yield "event: again\ndata: \n\n"
                    return
        finally:
            self._streams -= 1

    async def _act(self, request: Request) -> Response:
        if not self._guard.allow_actions:
            raise Refused("actions are disabled: start with --allow-actions")
        fields, params = await self._guard.form(request), _params(request)
        name, id, do = views.name_of(self._board, params), params.get("id", ""), params.get("do", "")
        if do not in ("run", "cancel", "reschedule", "requeue"):
            raise HTTPException(404)
        if do != "reschedule" and "sure" not in fields:
            raise Refused("tick the box to confirm", 400)
        backend = self._board.backend
        if do == "requeue":
            done = await _soon(jobs.requeue(backend, name, params.get("after", ""), id))
            log.info("requeue of the dead letter %r of %r: %s", id, name, "done" if done else "gone")
            return _go(text.link("dead", q=name, done="requeued" if done else "gone"))
        due_ms = text.whole_number(params, "due")
        job, _ = await _soon(jobs.get(backend, name, id, due_ms))
        if job is None:
            outcome = JobOutcome.NOT_FOUND
        elif do == "run":
            outcome = await _soon(jobs.run_now(backend, name, job))
        elif do == "cancel":
            outcome = await _soon(jobs.cancel(backend, name, job))
        else:
            outcome = await _soon(jobs.reschedule(backend, name, job, fields.get("when", "")))
        log.info("%s of the job %r of %r: %s", do, id, name, outcome)
        if do == "reschedule" and outcome is JobOutcome.MOVED:
            return _go(text.link("job", q=name, id=id, done=outcome))
        said = "due-now" if do == "run" and outcome is JobOutcome.MOVED else str(outcome)
        return _go(text.link("queue", q=name, done=said))

    async def _login(self, request: Request) -> Response:
        to = _params(request).get("to", "")
        to = to if PLACES.fullmatch(to) else ""
        if not self._guard.has_token or (request.method == "GET" and self._guard.knows(request)):
            return _go(to)
        if request.method == "GET":
            return self._page(request, "login", {"to": to, "wrong": False})
        fields = await self._guard.form(request)
        if not self._guard.is_token(request, fields.get("token", "").strip()):
            return self._page(request, "login", {"to": to, "wrong": True}, 403)
        response = _go(to)
        response.headers.append("set-cookie", self._guard.session(request))
        return response

    async def _logout(self, request: Request) -> Response:
        await self._guard.form(request)
        response = _go("./")
        response.headers.append("set-cookie", self._guard.no_session(request))
        return response

    async def _on_error(self, request: Request, exc: Exception) -> Response:
        status, heading = 500, "Error"
        if isinstance(exc, Refused):
            status, heading = exc.status, "Please wait" if exc.status == 429 else "Refused"
        elif isinstance(exc, HTTPException):
            status, heading = exc.status_code, "No such page" if exc.status_code == 404 else "Invalid request"
        elif isinstance(exc, ConfigError | JobError):
            status, heading = 400, "Invalid request"
        elif isinstance(exc, PermanentError):
            bad_cursor = exc.code == "BADCURSOR"
            status, heading = (400, "Invalid request") if bad_cursor else (502, "The store reported an error")
        elif isinstance(exc, TransientError | TimeoutError):
            status, heading = 503, "The store does not answer"
        problem = str(exc.detail) if isinstance(exc, HTTPException) else str(exc) or f"no answer in {ANSWER_S:g} s"
        if status == 503 and request.method == "POST":
            problem += "; the change may or may not have been made: check the job"
        response = self._page(request, "error", {"heading": heading, "problem": problem}, status)
        response.headers.update(exc.headers if isinstance(exc, Refused) else {})
        return response


async def _soon(work: Coroutine[Any, Any, T]) -> T:
    """Limit the wait for a hanging store, so that a visitor gets an answer. Raises TimeoutError."""
    return await run_within(work, ANSWER_S)


def _params(request: Request) -> dict[str, str]:
    try:
        return text.query(request.scope["query_string"])
    except ValueError:
        raise Refused("this address cannot be read", 400) from None


def _go(to: str) -> Response:
    """Return a relative redirect, which works behind any proxy."""
    return Response(status_code=303, headers={"location": f"./{to}" if to[:1] in ("", "?") else to})


def _asset(name: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        return Response(_read(name), media_type=ASSETS[name], headers={"cache-control": "max-age=3600"})

    return answer


@cache
def _read(name: str) -> bytes:
    return files("promoter_ui").joinpath("static", name).read_bytes()
