"""Complaints about the values of flags."""

from typing import Any

from lenet_jax.errors import UserError


def require_split(limit: int | None, validation: int) -> None:
    """Raises UserError unless both are numbers of examples."""
    way_out = "leave it out for all examples"
    require(limit is None or limit > 0, "data.limit", limit, "1 or more", way_out)
    require(validation >= 0, "data.validation", validation, "0 or more", "5000")


def require(ok: bool, what: str, given: Any, allowed: str, way_out: str) -> None:
    if not ok:
        raise UserError(f"--{what} is {given}, allowed is {allowed} (for example: {way_out})")
