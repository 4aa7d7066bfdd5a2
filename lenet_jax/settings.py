"""How jax is set up, for programs and notebooks alike."""

import os
import sys
from pathlib import Path

from lenet_jax.errors import UserError

LEAST_ADDRESSES = 2_000_000_000  # with jax 0.10 on Linux; with 1.5 GB it ends without a word


def set_up_jax() -> None:
    """Settings that jax reads when it is imported; what the user has set stays.

    Compiled programs are kept in the user's cache folder (JAX_ENABLE_COMPILATION_CACHE=false
    turns that off). jax sees each core of a CPU as a device of its own: the cores then share a
    batch or the seeds as devices do, with a thread each, and meet once for an update, where
    threads would meet in each of its small operations.

    Raises UserError where jax could not work: in an optimized Python, and without room.
    """
    if not __debug__:
        raise UserError(
            "Python is optimized (-O or PYTHONOPTIMIZE), and jax computes wrong gradients then. "
            "Leave that out"
        )
    if (room := addresses()) is not None and room < LEAST_ADDRESSES:
        raise UserError(
            f"this process may use {room / 1e9:.1f} GB of addresses, and jax needs "
            f"{LEAST_ADDRESSES / 1e9:.0f} GB before there are any data. Raise it: ulimit -v "
            "unlimited"
        )
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))
    os.environ.setdefault("NPROC", "1")
    if "jax" in sys.modules:  # a notebook's own: what is read on import is too late
        import jax

        if getattr(jax.config, "jax_compilation_cache_dir") is None:  # noqa: B009
            for name in ("compilation_cache_dir", "persistent_cache_min_compile_time_secs"):
                value = os.environ[f"JAX_{name.upper()}"]
                jax.config.update(f"jax_{name}", float(value) if "secs" in name else value)


def addresses() -> int | None:
    """How many bytes this process may map, where that is limited."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def cache_folder() -> Path:
    """The user's own, for what is made once on a machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lenet_jax"


def cores() -> int:
    """How many cores this program may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux's
    return len(allowed(0)) if allowed else os.cpu_count() or 1
