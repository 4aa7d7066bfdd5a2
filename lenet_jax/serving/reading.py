"""Reads pictures for many clients at once: finding in threads, the network in batches."""

import base64
import contextlib
import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from starlette.exceptions import HTTPException

from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.layers.codes import codes
from lenet_jax.layers.contract import run, shown
from lenet_jax.recognition import answers, decoding, networks, reader
from lenet_jax.serving import uploads
from lenet_jax.serving.batching import Batcher

WITH_MAPS = 10  # digits of a picture whose maps are sent, 11 kB each
HELD = 4  # pictures for a core: while the network answers for one, the next is decoded
LARGE = 4_000_000  # pixels: more of them are not held for more pictures than there are cores
ACTIVATED = 1.7159  # states are between minus and plus this (appendix A)


class PictureReader:
    """What a network reads in pictures, as JSON.

    The pictures of at most `requests` requests wait or are worked on, no more are decoded at a time
    than the machine has cores, for one may need 1 GB, and no more are held than HELD for each.
    Raises UserError for an unknown network.
    """

    def __init__(self, network: str, requests: int) -> None:
        scores, self.card = reader.reader(network)
        for size in reader.SIZES:  # compiled before the first client waits for it
            scores(np.zeros((size, *SHAPE), np.uint8))
        self.network = network
        self.batcher = Batcher(scores)
        self._states = states(network)
        self._threads = ThreadPoolExecutor(requests, "picture")
        cores = os.cpu_count() or 1
        self._cores = threading.Semaphore(cores)
        self._held = threading.Semaphore(HELD * cores)

    def submit(self, pictures: list[bytes], maps: bool, until: float) -> Future[bytes]:
        """The prediction to come: a JSON object, for the first digits with the maps of all layers.

        It raises TimeoutError where work on a picture cannot begin `until` then (`time.monotonic`),
        and for one picture alone what `uploads.decoded` raises; of several, it is told beside the
        digits of the others.
        """
        return self._threads.submit(self._read, pictures, maps, until)

    def _read(self, pictures: list[bytes], maps: bool, until: float) -> bytes:
        if len(pictures) == 1:
            answer = self._answer(pictures[0], maps, until)
        else:
            answer = {"pictures": [self._tried(picture, maps, until) for picture in pictures]}
        return json.dumps({"network": self.network, **answer}).encode()

    def _tried(self, picture: bytes, maps: bool, until: float) -> dict[str, Any]:
        try:
            return self._answer(picture, maps, until)
        except HTTPException as error:
            return {"error": error.detail}
        except UserError as error:
            return {"error": str(error)}

    def _answer(self, content: bytes, maps: bool, until: float) -> dict[str, Any]:
        with taken(self._held, until), taken(self._cores, until):
            grey, scale = _grey(content)
            large = grey.size > LARGE  # its core takes no other picture while the network answers
            scores = self.batcher if large else self._scores
            found = reader.read(grey, scores, self.card, scale=scale)
            del grey
        if large:
            _give_back()
        answer = answers.plain(found)
        if maps:
            for prediction, digit in zip(answer["digits"][:WITH_MAPS], found.digits, strict=False):
                prediction["image"] = packed(digit.image)
                prediction |= self._states(digit.image, digit.label)
        return answer

    def _scores(self, images: np.ndarray) -> np.ndarray:
        self._cores.release()  # while the network answers, the core may go on to the next picture
        try:
            return self.batcher(images)
        finally:
            self._cores.acquire()


def _give_back() -> None:
    """Gives free memory back to the system: glibc keeps hundreds of MB for each thread."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)  # musl has none


def _grey(content: bytes) -> tuple[np.ndarray, int]:
    """Grey levels and scale of a picture, whose colours are let go."""
    picture = uploads.decoded(content)
    return decoding.grey(picture.pixels), picture.scale


@contextlib.contextmanager
def taken(places: threading.Semaphore, until: float) -> Iterator[None]:
    """One of so many places. Raises TimeoutError where none is free `until` then."""
    left = until - time.monotonic()
    if left < 0 or not places.acquire(timeout=left):
        raise TimeoutError
    try:
        yield
    finally:
        places.release()


def states(network: str) -> Callable[[np.ndarray, int], dict[str, Any]]:
    """The maps of an image, uint8 [28, 28], and the code of a label, for JSON (`packed`).

    States are bytes: 0 is -1.7159, 255 is 1.7159.
    """
    trained = networks.load(network)

    @jax.jit
    def forward(image: jax.Array) -> dict[str, jax.Array]:
        inputs = shown(trained.module, image[None])
        _, maps = run(trained.module, {"params": trained.params}, inputs)
        return {name: quantised(state[0]) for name, state in maps.items()}

    centres = quantised(jnp.asarray(trained.params.get("output", {}).get("codes", codes())))
    forward(jnp.zeros(SHAPE, jnp.uint8))

    def of(image: np.ndarray, label: int) -> dict[str, Any]:
        maps = {name: packed(np.asarray(state)) for name, state in forward(image).items()}
        return {"maps": maps, "code": packed(np.asarray(centres[label]))}

    return of


def quantised(states: jax.Array) -> jax.Array:
    return jnp.round((states / ACTIVATED + 1) * 127.5).astype(jnp.uint8)


def packed(array: np.ndarray) -> dict[str, Any]:
    """A uint8 array for JSON: its shape and its bytes, row by row, in base64."""
    return {"shape": array.shape, "bytes": base64.b64encode(array.tobytes()).decode()}
