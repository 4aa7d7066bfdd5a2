"""SOURCES as a library of this machine: compiled and checked once, kept, loaded if it is whole."""

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

import jax

from lenet_jax import settings
from lenet_jax.errors import UserError
from lenet_jax.native import check

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.cc", "sampling.cc"))
ARM = platform.machine() in ("aarch64", "arm64")  # whose clang knows no -march=native
FLAGS = (
    "-O3",
    "-mcpu=native" if ARM else "-march=native",
    "-ffp-contract=fast",
    "-std=c++17",
    "-shared",
    "-fPIC",
)
HANDLERS = (
    *("LenetConvolve", "LenetConvolveBack", "LenetConvolveBackFirst"),
    *("LenetSubsample", "LenetSubsampleBack", "LenetSample"),
)
CHOICES = "auto", "native", "xla"
SECONDS, QUICK = 180, 10  # that a compiler may take, and to say its version
ONE_AT_A_TIME = threading.Lock()
INSTALL = "a C++17 compiler (Debian: apt install g++; macOS: xcode-select --install)"


class Missing(Exception):
    """Why there is no library."""


def chosen() -> str:
    """LENET_JAX_KERNELS, one of CHOICES; raises UserError for another word."""
    word = os.environ.get("LENET_JAX_KERNELS") or "auto"
    if word not in CHOICES:
        raise UserError(f"LENET_JAX_KERNELS is {word!r}, allowed are {', '.join(CHOICES)}")
    return word


def kind(build: bool = False) -> str:
    """Which kernels run on a CPU: "native" or "xla".

    They are compiled, where that was not done yet, if `build` says so or LENET_JAX_KERNELS is
    native: training waits for it, one prediction is made without. Raises UserError where they are
    asked for and cannot be had.
    """
    word = chosen()
    if word == "xla":
        return word
    reason = _loaded(build or word == "native")
    if reason and word == "native":
        raise UserError(f"LENET_JAX_KERNELS is native, and {reason}. Install {INSTALL}")
    return "xla" if reason else "native"


def remark() -> str:
    """In a line, why the slower kernels run though nobody asked for them, or why the native ones
    are compiled at each start; else empty.
    """
    word = chosen()
    if word == "auto" and (reason := _loaded(build=True)):
        return f"{reason}: training takes longer. Install {INSTALL}"
    if word != "xla" and not _folder():
        return f"{_kept_in()} cannot be used: the native kernels are compiled at each start"
    return ""


def begin() -> None:
    """Compiles in a thread, where that is still to be done, while other things are made ready."""
    if chosen() != "xla":
        threading.Thread(target=_loaded, args=(True,), name="kernels", daemon=True).start()


def _loaded(build: bool) -> str:
    """Registers the handlers with jax, once; returns why that could not be, or nothing."""
    with ONE_AT_A_TIME:
        try:
            if build or _load.cache_info().currsize or _is_kept():
                return _load()
        except Missing as error:
            return str(error)
    return "not compiled yet"


@cache
def _load() -> str:
    try:
        compiler = _compiler()
        folder = _folder() or Path(tempfile.mkdtemp(prefix="lenet_jax_native_"))
        path = folder / _name(compiler)
        if _whole(path):
            _register(path)
        else:
            _make(compiler, path)
    except (Missing, OSError, AttributeError) as error:
        return f"no native kernels ({error})"
    return ""


def _register(path: Path) -> None:
    library = ctypes.CDLL(str(path))
    for name in HANDLERS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")


def _is_kept() -> bool:
    folder = _folder()
    return bool(folder) and _whole(folder / _name(_compiler()))


def _compiler() -> str:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise Missing("there is no C++ compiler")
    return compiler


def _whole(path: Path) -> bool:
    """Whether it is what was compiled: a file beside it has its SHA-256."""
    try:
        said = path.with_suffix(".sha256").read_text()
        return said == hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _kept_in() -> Path:
    return settings.cache_folder() / "native"


def _folder() -> Path | None:
    """Where libraries are kept, if the folder can be written and nobody else can write it."""
    folder = _kept_in()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        own = not hasattr(os, "getuid") or about.st_uid == os.getuid()
        if own and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return None


def _name(compiler: str) -> str:
    """Of the library, with a hash of all that it depends on."""
    parts = [
        *(source.read_text() for source in SOURCES),
        compiler,
        _output([*compiler.split(), "--version"], QUICK),
        " ".join(FLAGS),
        _processor(),
        jax.__version__,
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"kernels-{digest[:24]}.so"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(named)}))


def _make(compiler: str, path: Path) -> None:
    """Compiled, loaded and checked as a file of this process's own, which then takes its name."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    include = jax.ffi.include_dir()
    command = [*compiler.split(), *FLAGS, f"-isystem{include}", *map(str, SOURCES)]
    try:
        _output([*command, "-o", str(own)], SECONDS)
        _register(own)
        if not check.agrees():
            raise Missing(f"those of {compiler} compute other numbers than XLA's")
        _keep(own, path)
    finally:
        own.unlink(missing_ok=True)


def _keep(own: Path, path: Path) -> None:
    try:
        digest = hashlib.sha256(own.read_bytes()).hexdigest()
        os.replace(own, path)
        own.write_text(digest)
        os.replace(own, path.with_suffix(".sha256"))
    except OSError as error:
        raise Missing(f"cannot write {path}: {error.strerror}") from error


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{command[0]} did not end within {seconds} s") from error
    except OSError as error:
        raise Missing(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
        raise Missing(f"{command[0]} failed: {said[0]}")
    return done.stdout
