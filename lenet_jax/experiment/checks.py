"""Complaints about the values of flags."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from lenet_jax.errors import UserError

LARGEST = 1_000_000  # of rates and bounds: more is a slip


def require_local(what: str, path: Any) -> None:
    """Raises UserError for a URL in the place of a path: everything is read and written here."""
    if path is not None and re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise UserError(
            f"--{what} is {path}, allowed is a path on this machine. Mount it, or copy "
            "it here first"
        )


def require_types(of: Any) -> None:
    """Raises UserError for a field of a dataclass whose value is not of its type, which pages and
    notebooks can give, and for a number that is not finite. A path may be a text.
    """
    hints = get_type_hints(type(of))
    for name in (field.name for field in dataclasses.fields(of)):
        value, hint = getattr(of, name), hints[name]
        if Path in (hint, *get_args(hint)):
            continue
        try:
            check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            allowed = str(hint) if get_args(hint) else hint.__name__
            allowed = allowed.replace("typing.", "")
            raise UserError(
                f"{type(of).__name__}: {name} is {value!r}, allowed is {allowed}"
            ) from None
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(
                    f"{type(of).__name__}: {name} is {value}, allowed are finite numbers"
                )


def require_positive(what: str, given: float, way_out: str) -> None:
    """Raises UserError unless it is above 0 and not so large that it must be a slip."""
    require(0 < given <= LARGEST, what, given, f"a positive number up to {LARGEST:,}", way_out)


def require_split(limit: int | None, validation: int) -> None:
    """Raises UserError unless both are numbers of examples."""
    way_out = "leave it out for all examples"
    require(limit is None or limit > 0, "data.limit", limit, "1 or more", way_out)
    require(validation >= 0, "data.validation", validation, "0 or more", "5000")


def require(ok: bool, what: str, given: Any, allowed: str, way_out: str) -> None:
    if not ok:
        raise UserError(f"--{what} is {given}, allowed is {allowed} (for example: {way_out})")
