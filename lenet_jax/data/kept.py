"""Arrays that were long in the making, kept in a file."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DAMAGED = Exception  # what reading one may raise: zipfile, zlib and NumPy have a dozen kinds


def write(file: Path, log: Callable[[str], None], **arrays: Any) -> None:
    """Keeps the arrays, all of them or none. Where they cannot be kept the log hears why: it only
    costs the time again.
    """
    partial = file.with_name(f"{file.stem}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as opened:
            np.savez(opened, **arrays)
        os.replace(partial, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        log(f"cannot keep {file}: {error.strerror}")
