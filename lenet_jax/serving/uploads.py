"""A client's picture: its bytes out of a request, its grey levels out of the bytes.

Nothing of it is written to a disk.
"""

import io
import logging
import warnings
from collections.abc import AsyncGenerator

import numpy as np
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from lenet_jax.errors import UserError
from lenet_jax.recognition import decoding
from lenet_jax.recognition.decoding import MEGAPIXELS

BODY = 5 * 2**20  # bytes
FORMATS = ("PNG", "JPEG")  # each decoder more is a door more

# Both warn of what is wrong with a client's data: the client is told, the log need not be.
logging.getLogger("python_multipart").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="PIL")


class InMemory(MultiPartParser):
    spool_max_size = BODY


async def content(request: Request) -> bytes:
    """The bytes of the picture: the body, or the first file of a multipart one.

    Raises HTTPException: 413 for more than BODY, 400 for an empty or malformed body.
    """
    picture = await _body(request)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        picture = await _file(request, picture)
    if not picture:
        raise HTTPException(400, "the body is empty: send a PNG or a JPEG file")
    return picture


async def _body(request: Request) -> bytes:
    too_large = HTTPException(413, f"the body is too large: allowed are {BODY / 2**20:g} MiB")
    if int(request.headers.get("content-length", 0)) > BODY:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY:
                raise too_large
    except ClientDisconnect as error:
        raise HTTPException(400, "the client went away") from error
    return bytes(body)


async def _file(request: Request, body: bytes) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await InMemory(request.headers, stream(), max_files=1, max_fields=10).parse()
    except (MultiPartException, ValueError) as error:  # ValueError: of a charset, say
        raise HTTPException(400, f"the multipart body is malformed: {error}") from error
    for value in form.values():
        if isinstance(value, UploadFile):
            return await value.read()
    raise HTTPException(400, "the multipart body has no file: send a PNG or a JPEG as `picture`")


def grey_levels(picture: bytes) -> np.ndarray:
    """A picture's grey levels, float32 [h, w] of 0 to 255.

    Raises HTTPException 415 for what is neither PNG nor JPEG, and UserError for damaged pictures
    and those of too many pixels, which are not decoded.
    """
    try:
        return decoding.read(Image.open(io.BytesIO(picture), formats=FORMATS))
    except UnidentifiedImageError as error:
        raise HTTPException(415, "the body is neither a PNG nor a JPEG picture") from error
    except Image.DecompressionBombError as error:
        allowed = f"allowed are {MEGAPIXELS} megapixels"
        raise UserError(f"the picture is too large: {allowed}") from error
    except UserError:
        raise
    except Exception as error:  # on damaged files the decoders raise whatever they like
        raise UserError(f"the picture is damaged: {error}") from error
