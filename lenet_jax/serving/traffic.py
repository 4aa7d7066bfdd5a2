"""What the server counts, in the text format that Prometheus reads."""

import time
from collections import Counter
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lenet_jax.serving.batching import Batcher

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Traffic:
    """Requests by path and status, how long they took, and the batches of the network.

    Paths that are not among `paths` count as "other", so that nobody can add lines at will.
    """

    def __init__(self, paths: Collection[str], batcher: Batcher) -> None:
        self._paths = paths
        self._batcher = batcher
        self._in_flight = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._within: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()

    def counting(self, app: ASGIApp) -> ASGIApp:
        """The app, its requests counted."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            begun = time.perf_counter()
            status = 500

            async def noting(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            self._in_flight += 1
            try:
                await app(scope, receive, noting)
            finally:
                self._in_flight -= 1
                self._count(scope["path"], status, time.perf_counter() - begun)

        return call

    def _count(self, path: str, status: int, seconds: float) -> None:
        path = path if path in self._paths else "other"
        self._requests[path, status] += 1
        self._seconds[path] += seconds  # type: ignore[assignment]
        for bucket in (*(b for b in BUCKETS if seconds <= b), float("inf")):
            self._within[path, bucket] += 1

    def text(self) -> str:
        """The page of /metrics."""
        lines = _head("requests_total", "counter", "Requests answered.")
        for (path, status), n in sorted(self._requests.items()):
            lines.append(f'lenet_jax_requests_total{{path="{path}",code="{status}"}} {n}')
        lines += _head("request_seconds", "histogram", "Seconds from a request to its answer.")
        for path, seconds in sorted(self._seconds.items()):
            for bucket in (*BUCKETS, float("inf")):
                edge = "+Inf" if bucket == float("inf") else bucket
                labels = f'{{path="{path}",le="{edge}"}}'
                lines.append(
                    f"lenet_jax_request_seconds_bucket{labels} {self._within[path, bucket]}"
                )
            lines.append(f'lenet_jax_request_seconds_sum{{path="{path}"}} {seconds:.6f}')
            count = self._within[path, float("inf")]
            lines.append(f'lenet_jax_request_seconds_count{{path="{path}"}} {count}')
        for name, kind, what, value in (
            ("requests_in_flight", "gauge", "Requests not yet answered.", self._in_flight),
            ("batches_total", "counter", "Runs of the network.", self._batcher.batches),
            ("images_total", "counter", "Images in these runs.", self._batcher.images),
        ):
            lines += [*_head(name, kind, what), f"lenet_jax_{name} {value}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP lenet_jax_{name} {what}", f"# TYPE lenet_jax_{name} {kind}"]
