"""A client's pictures: their bytes out of a request, their pixels out of the bytes.

Nothing of them is written to a disk.
"""

import base64
import json
import logging
import re
import warnings
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from lenet_jax.recognition import decoding
from lenet_jax.recognition.decoding import NoPicture, Picture

BODY = 5 * 2**20  # bytes
THROWN_AWAY = 4 * BODY  # bytes of a body that is too large
PICTURES = 32  # of one request
FORMATS = ("PNG", "JPEG")  # each decoder more is a door more
JSON = '{"picture": "..."} with the base64 of a PNG or a JPEG file, or its data URL'

# Both warn of what is wrong with a client's data: the client is told, the log need not be.
logging.getLogger("python_multipart").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="PIL")


class InMemory(MultiPartParser):
    spool_max_size = BODY


async def contents(request: Request) -> list[bytes]:
    """The bytes of the pictures: the body, that of its JSON, or all files of a multipart one.

    Raises HTTPException: 413 for more than BODY, 400 for an empty or malformed body and for more
    than PICTURES.
    """
    body = await _body(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        pictures = await _files(request, body)
    else:
        pictures = [_of_json(body) if kind == "application/json" else body]
    if pictures == [b""]:
        raise HTTPException(400, "the body is empty: send a PNG or a JPEG file")
    return pictures


async def _body(request: Request) -> bytes:
    """What the client sends. What is too large is read on for a while and thrown away, for many
    clients look for an answer only when all is sent; then the connection is closed.
    """
    told = f"the body is too large: allowed are {BODY / 2**20:g} MiB"
    too_large = HTTPException(413, told, {"Connection": "close"})
    length = int(request.headers.get("content-length", 0))
    if length > THROWN_AWAY or (length > BODY and "expect" in request.headers):
        raise too_large
    body, size = bytearray(), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > THROWN_AWAY:
                raise too_large
            if max(size, length) <= BODY:
                body += chunk
    except ClientDisconnect as error:
        raise HTTPException(400, "the client went away") from error
    if size > BODY:
        raise too_large
    return bytes(body)


async def _files(request: Request, body: bytes) -> list[bytes]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await InMemory(request.headers, stream(), max_files=PICTURES, max_fields=10).parse()
    except (MultiPartException, ValueError) as error:  # ValueError: of a charset, say
        told = f"the multipart body is malformed: {error}"
        if "Too many files" in str(error):
            told = f"the body has more than {PICTURES} pictures: send the others in another request"
        raise HTTPException(400, told) from error
    files = [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        told = "the multipart body has no file: send a PNG or a JPEG as `picture`"
        raise HTTPException(400, told)
    return files


def _of_json(body: bytes) -> bytes:
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON ({error}): send {JSON}") from error
    if not isinstance(given, dict):
        raise HTTPException(400, f"the JSON is no object: send {JSON}")
    if set(given) != {"picture"}:
        keys = f"{', '.join(given) or 'no keys':.80}"
        raise HTTPException(400, f"the JSON has {keys}, allowed is picture alone: send {JSON}")
    text = given["picture"]
    if not isinstance(text, str):
        raise HTTPException(400, f"picture is {text!r:.80}, allowed is a string: send {JSON}")
    encoded = "".join(re.sub(r"^data:[^,]*;base64,", "", text, flags=re.IGNORECASE).split())
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        told = f"picture is {text[:20]!r}..., no base64 ({error}): send {JSON}"
        raise HTTPException(400, told) from error


def decoded(content: bytes) -> Picture:
    """The picture in a file's bytes.

    Raises HTTPException 415 for what is neither PNG nor JPEG, and UserError for damaged pictures
    and those of too many pixels, which are not decoded.
    """
    try:
        return decoding.decode(content, FORMATS)
    except NoPicture as error:
        raise HTTPException(415, "the picture is neither a PNG nor a JPEG") from error
