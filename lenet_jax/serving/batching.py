"""Micro-batching: what several threads ask of a network at about the same time is run at once."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

GATHER = 0.002  # seconds that the first of a batch waits for others
MOST = 64  # images after which a batch waits no longer


class Batcher:
    """Calls `run`, from uint8 [n, 28, 28] to an array of n rows, for many threads at a time.

    `batches` and `images` count what was run.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray]) -> None:
        self.batches = self.images = 0
        self._run = run
        self._asked: queue.SimpleQueue[tuple[np.ndarray, Future[np.ndarray]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="network", daemon=True).start()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The rows of these images, uint8 [n, 28, 28]; raises what `run` raises."""
        answer: Future[np.ndarray] = Future()
        self._asked.put((images, answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            parts, answers = zip(*self._gathered(), strict=True)
            images = np.concatenate(parts)
            self.batches, self.images = self.batches + 1, self.images + len(images)
            try:
                rows = self._run(images)
            except Exception as error:  # each of those who wait for an answer gets it
                for answer in answers:
                    answer.set_exception(error)
                continue
            ends = np.cumsum([len(part) for part in parts])[:-1]
            for answer, share in zip(answers, np.split(rows, ends), strict=True):
                answer.set_result(share)

    def _gathered(self) -> list[tuple[np.ndarray, Future[np.ndarray]]]:
        batch = [self._asked.get()]
        until = time.monotonic() + GATHER
        while sum(len(images) for images, _ in batch) < MOST:
            try:
                batch.append(self._asked.get(timeout=max(0, until - time.monotonic())))
            except queue.Empty:
                break
        return batch
