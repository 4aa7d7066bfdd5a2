"""Several processes, on one machine or many, that train one run together.

Each runs the same program, and jax shows it the devices of all. Process 0 alone writes. A process
that is lost cannot be waited for: the others end too, and the same commands go on from the last
checkpoint.
"""

import ctypes
import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from lenet_jax.errors import UserError
from lenet_jax.experiment.distributed import Distributed

LOST = 43  # the exit code where another process is gone
SILENCE = 30  # seconds without a sign of life after which one is

Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)


def first() -> bool:
    """Whether this is the process that writes: the only one, or process 0."""
    return jax.process_index() == 0


def whole(array: Any) -> np.ndarray:
    """An array that may lie on the devices of several processes. All of them have to ask for it."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        from jax.experimental import multihost_utils

        if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
            raise TypeError("keys have no numbers of NumPy's: give jax.random.key_data of them")
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def gathered(mine: Any) -> np.ndarray:
    """The numbers of each process, [processes, ...]: booleans, int32, float32, or rounded to that.

    All of them have to ask for it at the same place.
    """
    mine = np.asarray(mine)
    if jax.process_count() == 1:
        return mine[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(mine))


def require_same(what: str, text: str) -> None:
    """Raises UserError, in all processes, where one's text about something is not that of all."""
    all_of_them = gathered(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8))
    if others := np.flatnonzero((all_of_them != all_of_them[0]).any(axis=1)).tolist():
        raise UserError(
            f"{what} of process {', '.join(map(str, others))} is not that of process 0. Give all "
            "processes the same flags, files and versions"
        )


@contextmanager
def joined(distributed: Distributed, log: Callable[[str], None]) -> Iterator[None]:
    """Brings the processes of a run together while it is open; alone it does nothing.

    They are those of the flags, or those that Slurm, Open MPI or a TPU have started. Kubernetes
    does not say whether the pods of a job belong together: there it takes flags.
    Call it before jax is asked for anything. Whatever goes wrong in one process ends all of them:
    the one with its own message, the others with the exit code LOST.
    Raises UserError where a cluster is found and jax cannot tell how it is laid out.
    """
    cluster = found()
    if distributed.coordinator is None and not cluster:
        yield
        return
    there = distributed.coordinator or f"the processes of {cluster}"
    told = [
        f"not all processes came to {there} within {distributed.wait} s (--distributed.wait). "
        "Give the same command to each, with a --distributed.process of its own"
    ]
    abort = _say_at_abort(told)
    # It would take SIGTERM as noted long before a run can save.
    jax.config.update("jax_enable_preemption_service", False)
    # Else two programs of the cores run at once, and their messages to other hosts are mixed up.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            distributed.coordinator,
            distributed.processes,
            distributed.process,
            initialization_timeout=distributed.wait,
            heartbeat_timeout_seconds=SILENCE,
        )
        jax.devices()  # where the processes meet
    except ValueError as error:
        raise UserError(
            f"{there}: {error}. Give --distributed.coordinator HOST:PORT, --distributed.processes "
            "and --distributed.process"
        ) from error
    except RuntimeError as error:
        _end(f"error: {told[0]} ({str(error).splitlines()[0][:200]})", LOST)
    if first():
        log(f"{jax.process_count()} processes with {jax.device_count()} devices")
    told[0] = (
        f"process {jax.process_index()} of {jax.process_count()} has lost another one, whose own "
        "output says why. What was saved stays: give all of them the same command again to go on"
    )
    try:
        yield
    except (UserError, OSError) as error:
        _end(f"error: process {jax.process_index()}: {error}", 2)
    except KeyboardInterrupt:  # before training began there is nothing to save
        _end("", 130)
    except jax.errors.JaxRuntimeError as error:
        _end(f"error: {told[0]} ({str(error).splitlines()[0][:200]})", LOST)
    except BaseException:
        traceback.print_exc()
        _end(f"error: process {jax.process_index()} has failed", 1)
    jax.distributed.shutdown()
    del abort


def found() -> str:
    """What has started several processes, this one among them, or nothing."""

    def several(name: str) -> bool:
        return os.environ.get(name, "").isdecimal() and int(os.environ[name]) > 1

    if several("SLURM_NTASKS") and {"SLURM_PROCID", "SLURM_STEP_NODELIST"} <= os.environ.keys():
        return "Slurm"  # a step of srun; a batch script by itself has no step
    if several("OMPI_COMM_WORLD_SIZE"):
        return "Open MPI"
    if "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        return "a TPU"
    return ""


def _say_at_abort(told: list[str]) -> Any:
    """Makes what jax does to a process that lost another, abort(), end in a line and LOST.

    Returns the handler, which has to be kept. jax has no setting for this, and no handler of
    Python's would be called before the process is gone.
    """

    def say(_: int) -> None:
        _end(f"error: {told[0]}", LOST)

    handler = Handler(say)
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, Handler)
    libc.signal(signal.SIGABRT, handler)
    return handler


def _end(line: str, code: int) -> None:
    """Ends at once: an orderly end would wait for the processes that are gone."""
    print(line, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)
