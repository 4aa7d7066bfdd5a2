"""Connections that do not wait for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 10  # for the headers of a request, from the connection or the answer before


class Punctual(H11Protocol):
    """Closes a connection whose next request does not begin in time.

    uvicorn's own limit is for silence alone: a client that sends a byte now and then stays, and
    some dozens of them leave no connection to others.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_request()

    def handle_events(self) -> None:
        super().handle_events()
        if self._late and self.cycle is not None and not self.cycle.response_complete:
            self._late.cancel()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late:
            self._late.cancel()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._late = self.loop.call_later(SECONDS, self.transport.abort)
