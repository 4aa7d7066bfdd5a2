"""The routes: the page, the API, and what those who run the server look at."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import lenet_jax
from lenet_jax.errors import UserError
from lenet_jax.serving import headers, uploads
from lenet_jax.serving.openapi import DOCUMENT, PATHS
from lenet_jax.serving.reading import PictureReader
from lenet_jax.serving.traffic import Traffic

SECONDS = 20  # from the first byte of a request to its answer
QUEUE = 128  # requests whose pictures are on their way, waiting or worked on
PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def create(
    network: str,
    origins: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    seconds: float = SECONDS,
) -> ASGIApp:
    """The application that serves a network, compiled and ready to answer.

    Pages of `origins` may ask it too ("*": all pages). `hosts` are the names that it answers to
    (None: to any). A request is given up after `seconds`.
    Raises UserError for an unknown network.
    """
    pictures = PictureReader(network, QUEUE)
    places = threading.BoundedSemaphore(QUEUE)

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def recognize(request: Request) -> Response:
        maps = request.query_params.get("maps", "false")
        if maps not in ("true", "false"):
            raise HTTPException(400, f"maps is {maps!r}, allowed are true and false")
        if not places.acquire(blocking=False):
            raise _busy(f"{QUEUE} requests are waiting already")
        until = time.monotonic() + seconds
        job: Future[bytes] | None = None
        try:
            async with asyncio.timeout(seconds):
                contents = await uploads.contents(request)
                job = pictures.submit(contents, maps == "true", until)
                answer = await asyncio.wrap_future(job)
        except TimeoutError as error:
            if job is None:
                told = f"the body did not come within {seconds:g} s"
                raise HTTPException(408, told, {"Connection": "close"}) from error
            raise _busy(f"no answer was found within {seconds:g} s") from error
        finally:
            if job is None:
                places.release()
            else:  # also a picture whose client is gone keeps its place until it is done with
                job.add_done_callback(lambda _: places.release())
        return Response(answer, media_type="application/json")

    async def healthz(request: Request) -> Response:
        return JSONResponse({"network": network, "version": lenet_jax.__version__})

    async def counted(request: Request) -> Response:
        return PlainTextResponse(traffic.text(), media_type="text/plain; version=0.0.4")

    async def openapi(request: Request) -> Response:
        return JSONResponse(DOCUMENT)

    answers = {
        "/": page,
        "/v1/recognize": recognize,
        "/healthz": healthz,
        "/metrics": counted,
        "/openapi.json": openapi,
    }
    app = Starlette(
        routes=[  # those of the document, so that none is left out of it
            Route(path, answers[path], methods=[method.upper() for method in methods])
            for path, methods in PATHS.items()
        ],
        exception_handlers={HTTPException: _refused, UserError: _unreadable, Exception: _failed},
    )
    app.router.redirect_slashes = False  # to an address that a path prefix would be missing from
    served = headers.shared(app, "/v1/recognize", origins) if origins else app
    served = headers.guarded(served, origins, hosts)
    traffic = Traffic(PATHS, pictures.batcher)
    return headers.secured(traffic.counting(served), headers.security(PAGE))


def _busy(reason: str) -> HTTPException:
    return HTTPException(503, f"{reason}: try again in a second", {"Retry-After": "1"})


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _unreadable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed; its log says why"}, 500)
