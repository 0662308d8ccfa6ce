"""The hub's HTTP interface.

POST /v1/reports    a report, or a list of them (token of scope device)
GET  /v1/reports    those after a number of arrival, for a host that collects (token of scope read)
GET  /v1/health     whether it works
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from .. import __version__
from ..errors import StoreError
from .intake import Incoming, Posted, Refusal, read_posted
from .storage import Receipt, Storage, Token

__all__ = ["MOST_BODY_BYTES", "create_app"]

MOST_BODY_BYTES = 4 * 1024 * 1024
READ_DEADLINE_S = 120.0
RETRY_AFTER_S = 5
MOST_PAGE = 200
STATUS = {"stored": 201, "duplicate": 200, "conflict": 409, "refused": 422}


def create_app(
    storage: Storage, *, most_body_bytes: int = MOST_BODY_BYTES, read_deadline_s: float = READ_DEADLINE_S
) -> FastAPI:
    """The application over ``storage``; a request's body is cut off at ``most_body_bytes`` while it streams in."""
    app = FastAPI(title="edgekit hub", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(StoreError)
    async def unavailable(_: Request, error: StoreError) -> Response:
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.get("/v1/health")
    async def health() -> dict[str, str]:
        await run_in_threadpool(storage.check)
        return {"status": "ok", "hub": storage.hub_id, "version": __version__}

    @app.post("/v1/reports")
    async def receive(request: Request) -> Response:
        try:
            sender = await _authorise(request, storage, "device")
        except HTTPException:  # a client that still sends would not read the answer
            await _read_body(request, most_body_bytes, read_deadline_s, keep=False)
            raise
        body = await _read_body(request, most_body_bytes, read_deadline_s)
        posted = await run_in_threadpool(read_posted, body)
        if isinstance(posted, Refusal):
            raise HTTPException(422, posted.reason)
        results = await run_in_threadpool(_keep, storage, posted, sender.name)
        if posted.is_list:
            return JSONResponse({"results": results})
        return JSONResponse(results[0], STATUS[results[0]["status"]])

    @app.get("/v1/reports")
    async def hand_out(
        request: Request,
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        run: Annotated[str, Query(max_length=200)] = "",
        most: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 100,
    ) -> Response:
        await _authorise(request, storage, "read")
        return Response(await run_in_threadpool(_page, storage, after, run, most), media_type="application/json")

    return app


async def _read_body(request: Request, most: int, deadline_s: float, *, keep: bool = True) -> bytes:
    """The body, of which no more than ``most`` bytes are ever held; raises 413 and, when it drips, 408.

    A client that sends all before it reads anything should get its answer: up to twice as much is taken and thrown away.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > 2 * most):
        raise _too_large(most)
    content, taken = bytearray(), 0

    async def take() -> None:
        nonlocal taken
        async for piece in request.stream():
            taken += len(piece)
            if taken > 2 * most:
                raise _too_large(most)
            if taken > most:
                content.clear()
            elif keep:
                content.extend(piece)

    await _within(deadline_s, take)
    if taken > most:
        raise _too_large(most)
    return bytes(content)


async def _within(deadline_s: float, action: Callable[[], Awaitable[None]]) -> None:
    try:
        await asyncio.wait_for(action(), deadline_s)
    except asyncio.TimeoutError as error:
        raise HTTPException(408, f"the body did not come within {deadline_s:g} s", {"Connection": "close"}) from error


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"expected a body of at most {most} bytes", {"Connection": "close"})


async def _authorise(request: Request, storage: Storage, scope: str) -> Token:
    """The token of a request. Raises 401 without a good one, 403 for one of another scope."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    token = None
    if kind.lower() == "bearer" and text:
        token = await run_in_threadpool(storage.find_token, text.strip())
    if token is None:
        raise HTTPException(
            401, "expected a token of this hub (edgekit hub token add NAME)", {"WWW-Authenticate": "Bearer"}
        )
    if token.scope != scope:
        raise HTTPException(403, f"expected a token of scope {scope}, got one of scope {token.scope}")
    return token


def _keep(storage: Storage, posted: Posted, sender: str) -> list[dict[str, Any]]:
    """Store what is to be stored; one result for each item, in their order."""
    receipts = iter(storage.add([item for item in posted.items if isinstance(item, Incoming)], sender))
    return [_result(item, None if isinstance(item, Refusal) else next(receipts)) for item in posted.items]


def _result(item: Incoming | Refusal, receipt: Receipt | None) -> dict[str, Any]:
    if isinstance(item, Refusal) or receipt is None:
        return {"id": item.id, "status": "refused", "detail": item.reason if isinstance(item, Refusal) else ""}
    result: dict[str, Any] = {"id": item.id, "status": receipt.status, "duplicate": receipt.status == "duplicate"}
    if receipt.status == "conflict":
        result["detail"] = "another report is here under this id, and stays"
    elif item.note:
        result["note"] = item.note
    return result


def _page(storage: Storage, after: int, run: str, most: int) -> bytes:
    """Reports as JSON; their own text goes in as it is, since it was made by our own json.dumps."""
    found = storage.reports(after, run, most)
    items = [
        f'{{"arrival":{item.arrival},"sender":{json.dumps(item.sender)},"received":{json.dumps(item.received)},'
        f'"report":{item.body}}}'
        for item in found
    ]
    last = found[-1].arrival if found else after
    return f'{{"hub":{json.dumps(storage.hub_id)},"next":{last},"reports":[{",".join(items)}]}}'.encode()
