"""The reference LeNet-5: the 1998 network exactly as published, in JAX and Flax."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`recognize`, imported when it is asked for: with it come jax and flax, two seconds."""
    if name == "recognize":
        from lenet_jax.recognition.reader import recognize

        return recognize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
