"""A run is a folder: one run, one program at a time, nothing twice and nothing missing."""

import errno
import json
import os
import socket
import sys
from pathlib import Path
from typing import IO, Any

from lenet_jax.errors import UserError
from lenet_jax.experiment.experiment import Page
from lenet_jax.experiment.serialization import needs_page

# These say where and on what a run works, not what it computes.
FREE = {"workdir", "devices", "keep", "data.data_dir", "data.manual_dir", "data.fallback"}
FREE |= {"kernels"}  # the last bits alone; the loop says so where a run goes on with others
FREE |= {"dataset_names"}  # runs of before did not write them, and the data's sum tells sets apart
WITHOUT_LOCKS = errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL
# What a page says beside the configuration matters only where the page made a part of it.
FREE_PAGE = {"page.path", "page.variant", "page.sha256"}


class RunFolder:
    """Opens a folder for a run, or makes it, and holds its lock while it is used in a `with`.

    Where several processes train it together only one of them `writes`, and holds the lock.
    `config` is the resolved configuration in JSON's types (`config.as_json`) with the data set;
    `begun` is that with which the run was begun, `remark` what the user should know, if anything.
    Raises UserError for a folder that cannot be written, that another program works in, or that
    holds a run with another configuration; on the way out of the `with`, for an OSError in it.
    """

    def __init__(self, path: Path, config: dict[str, Any], writes: bool = True) -> None:
        self.path, self.begun, self._writes = path.absolute(), config, writes
        self.remark = ""
        if not writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "a+")  # noqa: SIM115, open as long as the run
        except OSError as error:
            raise UserError(
                f"--workdir {path}: {error.strerror}. Give a folder that can be written"
            ) from error
        try:
            _hold(self._lock)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                self._lock.seek(0)
                holder = self._lock.read().strip() or "another program"
                self._lock.close()
                raise UserError(
                    f"--workdir {path}: in use by {holder}. Wait for it, stop it, or give another "
                    "--workdir"
                ) from None
            if error.errno not in WITHOUT_LOCKS:
                raise
            self.remark = (
                f"{path} lies on a file system that has no locks: see to it that no other program "
                "works in it"
            )
        try:
            self.begun = self._same_run(config)
        except UserError:
            self._lock.close()
            raise
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._writes:
            self._lock.close()
        if isinstance(error, OSError):
            raise UserError(
                f"--workdir {self.path}: {error.strerror or error}. The last good checkpoint "
                "stays; make room or mend the folder, then give the same command to go on"
            ) from error

    def keep_page(self, page: Page | None) -> None:
        """Writes down the texts of an experiment's page, each file beside the others."""
        for name, text in (page.texts if page and self._writes else {}).items():
            (self.path / "page").mkdir(exist_ok=True)
            write_whole(self.path / "page" / name, text)

    def _same_run(self, config: dict[str, Any]) -> dict[str, Any]:
        file = self.path / "config.json"
        try:
            there = json.loads(file.read_text())
        except FileNotFoundError:
            ours = ("lock", _partial(file).name)  # a program that was killed left its part
            if strangers := sorted(p.name for p in self.path.iterdir() if p.name not in ours):
                raise UserError(
                    f"--workdir {self.path}: holds {', '.join(strangers[:5])} but no config.json, "
                    "so it is not a run's. Give a new folder"
                ) from None
            write_whole(file, json.dumps(config, indent=2) + "\n")
            return config
        except ValueError as error:
            raise UserError(f"{file} is damaged ({error}). Give another --workdir") from error
        if differ := differences(there, config):
            raise UserError(
                f"--workdir {self.path} holds another run:\n  " + "\n  ".join(differ) + "\n"
                "Give the same values to resume it, or another --workdir for a new one"
            )
        return there


def _hold(lock: IO[str]) -> None:
    """Locks an open file for this process, until it ends; raises OSError if another holds it."""
    if sys.platform == "win32":
        import msvcrt

        # Nobody may read what is locked there: so a byte beyond all that is written.
        lock.seek(2**30)
        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """The fields of two resolved configurations that make them different runs, a line for each."""
    old, new = _flat(there), _flat(here)
    return [
        f"{name}: {old.get(name)!r} there, {new.get(name)!r} here"
        for name in sorted((old.keys() | new.keys()) - _free(here))
        if old.get(name) != new.get(name)
    ]


def computed(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a resolved configuration that say what a run computes, by dotted names."""
    free = _free(config)
    return {name: value for name, value in _flat(config).items() if name not in free}


def _free(config: dict[str, Any]) -> set[str]:
    return FREE | ({"page.path"} if needs_page(config) else FREE_PAGE)


def write_whole(path: Path, text: str) -> None:
    """Replaces a file at once: after a crash it is the old one or the new one."""
    partial = _partial(path)
    with open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
