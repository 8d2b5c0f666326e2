"""Delayed mails behind a FastAPI application, which promotes them itself: `fastapi run fastapi_app.py`."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from promoter_core import DelayedQueue, JobOutcome, PermanentError, Promoter, TransientError, connect

log = logging.getLogger(__name__)
AGAIN_S = 60.0  # after a permanent error, as a fleet does with a queue


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open and close one connection in the application's event loop, and run a promoter beside it."""
    async with connect(os.environ.get("PROMOTER_URL", "redis://localhost:6379")) as backend:
        app.state.mails = DelayedQueue(backend, "mails")
        app.state.promoter = Promoter(backend, "mails")
        promoting = asyncio.create_task(keep_promoting(app.state.promoter))
        try:
            yield
        finally:
            promoting.cancel()  # it releases its lock, so that another process leads at once
            with suppress(asyncio.CancelledError):
                await promoting


async def keep_promoting(promoter: Promoter) -> None:
    """Run it again after a permanent error, because somebody may have fixed the password or the memory limit."""
    while True:
        try:
            await promoter.run()
            return
        except PermanentError as error:
            log.error("the promoter has ended and starts again in %.0f s: %s", AGAIN_S, error)
        await asyncio.sleep(AGAIN_S)


def get_mails(request: Request) -> DelayedQueue:
    mails: DelayedQueue = request.app.state.mails
    return mails


Mails = Annotated[DelayedQueue, Depends(get_mails)]
app = FastAPI(lifespan=lifespan)


@app.exception_handler(TransientError)
async def unavailable(request: Request, error: TransientError) -> JSONResponse:
    """Answer 503 while the store cannot be reached. A job may have been stored, so a client repeats it with its id."""
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})


class Mail(BaseModel):
    to: str
    id: str | None = Field(None, description="makes it safe to repeat the request")
    delay: float = Field(300, ge=0, description="seconds")


class Waiting(BaseModel):
    id: str
    to: str
    due: datetime | None


@app.post("/mails", status_code=201)
async def schedule(mail: Mail, mails: Mails) -> dict[str, str]:
    job = await mails.schedule({"to": mail.to}, name="welcome", delay=mail.delay, job_id=mail.id)
    return {"id": job.id}


@app.get("/mails")
async def list_mails(mails: Mails, response: Response, after: str = "", limit: int = 50) -> list[Waiting]:
    page = await mails.jobs(limit=min(max(limit, 1), 100), after=after)
    response.headers["X-Next"] = page.cursor  # empty on the last page
    return [Waiting(id=job.id, to=job.data()["to"], due=job.due) for job in page.jobs if job.id and not job.malformed]


@app.delete("/mails/{id}", status_code=204)
async def cancel(id: str, mails: Mails) -> None:
    outcome = await mails.cancel(id)
    if outcome is not JobOutcome.REMOVED:
        raise HTTPException(409 if outcome is JobOutcome.ALREADY_PROMOTED else 404, outcome.value)


@app.get("/readyz")
async def ready(request: Request, response: Response) -> list[str]:
    """Return 503 with the reasons while no process promotes, neither this one nor another."""
    reasons: list[str] = request.app.state.promoter.unready()
    response.status_code = 503 if reasons else 200
    return reasons
