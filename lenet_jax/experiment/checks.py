"""Complaints about the values of flags."""

from typing import Any

from lenet_jax.errors import UserError


def require(ok: bool, what: str, given: Any, allowed: str, way_out: str) -> None:
    if not ok:
        raise UserError(f"--{what} is {given}, allowed is {allowed} (for example: {way_out})")
