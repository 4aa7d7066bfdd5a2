"""The headers that let a browser do with our answers no more than the page needs."""

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def security(page: str) -> dict[str, str]:
    """Headers for every answer; the page's own script and style are allowed by their SHA-256."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    policy = {
        "default-src": "'none'",
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def secured(app: ASGIApp, headers: dict[str, str]) -> ASGIApp:
    """The app with these headers on each of its answers that has no others of these names."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in headers.items():
                    found.setdefault(name, value)
            await send(message)

        await app(scope, receive, with_headers)

    return call


def guarded(app: ASGIApp, origins: Sequence[str], hosts: Sequence[str] | None) -> ASGIApp:
    """The app, for requests that are meant for it.

    A page elsewhere whose name was made to stand for this machine's address (DNS rebinding) asks
    by that name, which is none of `hosts` (None: all are). And what a page elsewhere posts, a
    browser says so; pages of `origins` may ("*": all pages).
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope)
        name = re.sub(r":\d*$", "", given.get("host", "")).strip("[]").lower()
        elsewhere = given.get("sec-fetch-site") in ("cross-site", "same-site")
        may_ask = "*" in origins or given.get("origin") in origins
        refused = ""
        if hosts is not None and name not in hosts:
            refused = f"this server does not answer to {name!r:.80}: start it with --allow-host"
        elif scope["method"] == "POST" and elsewhere and not may_ask:
            refused = "pages of other origins may not ask: start the server with --allow-origin"
        answer = JSONResponse({"error": refused}, 403) if refused else app
        await answer(scope, receive, send)

    return call


def shared(app: ASGIApp, path: str, origins: Sequence[str]) -> ASGIApp:
    """The app, whose answers at this path pages of these origins may read ("*": all pages)."""
    asked_by_others = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("POST",),
        allow_private_network=True,  # from a page of the internet to this machine
        expose_headers=("Retry-After",),
    )
    read_by_others = secured(asked_by_others, {"Cross-Origin-Resource-Policy": "cross-origin"})

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await (read_by_others if scope["path"] == path else app)(scope, receive, send)

    return call
