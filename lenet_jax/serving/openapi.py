"""The description of the API that programs read (OpenAPI 3.1)."""

from typing import Any

import lenet_jax
from lenet_jax.recognition.decoding import MEGAPIXELS, OF_JPEG
from lenet_jax.serving import uploads

NUMBERS = {"type": "array", "items": {"type": "number"}}
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}


def _object(optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": schema}}}


def _get(name: str, summary: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _answer(summary, media, schema)},
    }


def _error(description: str) -> dict[str, Any]:
    return _answer(description, "application/json", _ref("Error"))


def _later(description: str) -> dict[str, Any]:
    wait = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    return _error(description) | {"headers": {"Retry-After": wait}}


RECOGNIZE: dict[str, Any] = {
    "operationId": "recognize",
    "summary": "The digits of a picture, line by line, each from the left.",
    "description": "The picture is read in memory and forgotten with the answer. Of several, in a "
    "multipart body, each has an entry in the answer's `pictures`, in their order: its digits, or "
    "what is wrong with it.",
    "parameters": [
        {
            "name": "maps",
            "in": "query",
            "description": "Whether the first ten digits come with the states of all layers.",
            "schema": {"type": "boolean", "default": False},
        }
    ],
    "requestBody": {
        "required": True,
        "description": f"A PNG or JPEG of at most {MEGAPIXELS} megapixels ({OF_JPEG} in a JPEG "
        f"that is not progressive), or up to {uploads.PICTURES} of them. The whole body has at "
        f"most {uploads.BODY // 2**20} MiB.",
        "content": {
            "image/png": {"schema": FILE},
            "image/jpeg": {"schema": FILE},
            "multipart/form-data": {
                "schema": _object(
                    picture={
                        "type": "array",
                        "items": FILE,
                        "minItems": 1,
                        "maxItems": uploads.PICTURES,
                    }
                )
            },
            "application/json": {
                "schema": _object(
                    picture={
                        "type": "string",
                        "contentEncoding": "base64",
                        "description": "The file in base64; `data:image/png;base64,` may stand "
                        "before it.",
                    }
                )
                | {"additionalProperties": False}
            },
        },
    },
    "responses": {
        "200": _answer(
            "The digits; none for a blank page.",
            "application/json",
            {"anyOf": [_ref("Recognition"), _ref("Recognitions")]},
        ),
        "400": _error(
            "The body is empty, its multipart or JSON malformed, its pictures too many, or `maps` "
            "neither true nor false."
        ),
        "403": _error("Asked by a name, or from a page of an origin, that may not."),
        "408": _error("The body did not come in time."),
        "413": _error("The body is too large."),
        "415": _error("The picture is neither PNG nor JPEG."),
        "422": _error("The picture is damaged, too small, or has too many pixels."),
        "500": _error("The server failed."),
        "503": _later("Too many requests are waiting, or no answer was found in time."),
    },
}

PATHS: dict[str, Any] = {
    "/": {"get": _get("page", "The page to draw on.", "text/html", {"type": "string"})},
    "/v1/recognize": {"post": RECOGNIZE},
    "/healthz": {
        "get": _get(
            "health",
            "That the server answers, and with which network.",
            "application/json",
            _object(network={"type": "string"}, version={"type": "string"}),
        )
    },
    "/metrics": {
        "get": _get("metrics", "Counts for Prometheus.", "text/plain", {"type": "string"})
    },
    "/openapi.json": {
        "get": _get("openapi", "This document.", "application/json", {"type": "object"})
    },
}

BOX = {
    **NUMBERS,
    "description": "Left, top, width, height in pixels of the upright picture.",
    "minItems": 4,
    "maxItems": 4,
}
READING: dict[str, Any] = {
    "digits": {"type": "array", "items": _ref("Digit")},
    "lines": {"type": "array", "items": _ref("Line")},
    "turned": {
        "type": "integer",
        "enum": [0, 90, 180, 270],
        "description": "By how many degrees counterclockwise the picture was turned to be read.",
    },
    "left_out": {
        "type": "array",
        "items": {"type": "string"},
        "description": "What was seen and not read, in sentences.",
    },
}
SCHEMAS: dict[str, Any] = {
    "Recognition": {
        **_object(network={"type": "string"}, **READING),
        "description": "Of one picture.",
    },
    "Recognitions": {
        **_object(
            network={"type": "string"},
            pictures={
                "type": "array",
                "items": {"anyOf": [_object(**READING), _ref("Error")]},
                "minItems": 2,
                "maxItems": uploads.PICTURES,
            },
        ),
        "description": "Of several pictures.",
    },
    "Digit": _object(
        optional=("image", "maps", "code"),
        label={"type": "integer", "minimum": 0, "maximum": 9},
        score={"type": "number", "description": "Minus the least penalty."},
        runner_up={"type": "integer", "minimum": 0, "maximum": 9},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
        rejected={
            "type": "boolean",
            "description": "Whether its runner-up, or the rubbish class, is too close.",
        },
        rubbish={
            "type": "boolean",
            "description": "Whether the rubbish class beats it (eq. 9): no digit.",
        },
        box=BOX,
        penalties={
            **NUMBERS,
            "description": "For each class the squared distance of F6 from its code (eq. 7).",
            "minItems": 10,
            "maxItems": 10,
        },
        image={**_ref("Bytes"), "description": "What the network saw, 0 is paper, 255 ink."},
        maps={
            "type": "object",
            "description": "The states of C1, S2, C3, S4, C5 and F6, 0 is -1.7159, 255 is 1.7159.",
            "properties": {name: _ref("Bytes") for name in ("c1", "s2", "c3", "s4", "c5", "f6")},
        },
        code={**_ref("Bytes"), "description": "The code of the answer, as F6 would have it."},
    ),
    "Line": _object(
        text={
            "type": "string",
            "description": "Its digits, ? for a rejected one, its marks, a space for a wide gap.",
        },
        digits={
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "description": "Their places among the picture's digits, from 0.",
        },
        marks={
            "type": "array",
            "items": _object(text={"type": "string", "enum": [".", ",", ":", "-"]}, box=BOX),
        },
    ),
    "Bytes": _object(
        shape={"type": "array", "items": {"type": "integer"}},
        bytes={"type": "string", "contentEncoding": "base64"},
    ),
    "Error": _object(error={"type": "string", "description": "What is wrong, in a sentence."}),
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "lenet_jax",
        "version": lenet_jax.__version__,
        "description": "LeNet-5 reads the handwritten digits of a picture.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "servers": [{"url": "."}],  # where the document is, behind a path prefix too
    "paths": PATHS,
    "components": {"schemas": SCHEMAS},
}
