"""Complaints about the values of flags."""

import re
from typing import Any

from lenet_jax.errors import UserError


def require_local(what: str, path: Any) -> None:
    """Raises UserError for a URL in the place of a path: everything is read and written here."""
    if path is not None and re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise UserError(
            f"--{what} is {path}, allowed is a path on this machine. Mount it, or copy "
            "it here first"
        )


def require_split(limit: int | None, validation: int) -> None:
    """Raises UserError unless both are numbers of examples."""
    way_out = "leave it out for all examples"
    require(limit is None or limit > 0, "data.limit", limit, "1 or more", way_out)
    require(validation >= 0, "data.validation", validation, "0 or more", "5000")


def require(ok: bool, what: str, given: Any, allowed: str, way_out: str) -> None:
    if not ok:
        raise UserError(f"--{what} is {given}, allowed is {allowed} (for example: {way_out})")
