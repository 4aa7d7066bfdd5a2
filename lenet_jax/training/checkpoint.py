"""Checkpoints: Orbax behind one class, with our own SHA-256 of what is in them.

Orbax writes a step whole or not at all, but loads a flipped bit without a word, and casts another
dtype to the one asked for. So the sum lies beside the state and is compared on the way in.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.errors import UserError
from lenet_jax.training import hosts


def digest(state: Any) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all arrays of a tree."""
    sum256 = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        sum256.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}".encode())
        for part in _parts(leaf):
            sum256.update(part.tobytes())
    return sum256.hexdigest()


def _parts(leaf: Any) -> Iterator[np.ndarray]:
    """An array piece by piece, as it lies on the devices: split along its first axis, or whole.

    So it need not fit the host in one piece; the sum does not depend on where it was cut.
    """
    if not isinstance(leaf, jax.Array) or not leaf.is_fully_addressable:
        yield hosts.whole(leaf)
        return
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    for shard in sorted(shards, key=lambda s: (s.index[0].start or 0) if s.index else 0):
        yield np.asarray(shard.data)


class Saved(NamedTuple):
    """What a checkpoint holds: the state, and the rows of metrics.jsonl that led to it."""

    state: Any
    rows: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run, under an absolute folder.

    The newest `keep` stay, and those of steps that `every` divides: a picture of how a run went
    needs more than its end.

    With `keep` None they are only read, and nothing in the folder changes, so that a run may go
    on there. `log` gets a line for each checkpoint that had to be passed over.
    """

    def __init__(
        self, folder: Path, keep: int | None, log: Callable[[str], None], every: int | None = None
    ) -> None:
        import orbax.checkpoint as ocp

        # Orbax logs what it does, and its own account of each error that we report in a line.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._args = ocp.args
        self._restore_args = ocp.checkpoint_utils.construct_restore_args
        # Each device writes the part that it has. Else Orbax cuts up what several have alike, so
        # that each writes a piece, and compiles every cut.
        by_shard = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
        arrays = ocp.type_handlers.create_type_handler_registry((jax.Array, by_shard))
        self._folder = folder
        self._log = log
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                keep_period=every,
                read_only=keep is None,
                cleanup_tmp_directories=hosts.first(),
                enable_async_checkpointing=False,
            ),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(type_handler_registry=arrays),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def save(
        self, step: int, state: Any, rows: list[dict[str, Any]], about: dict[str, Any]
    ) -> None:
        """Writes the state and the rows, and `about` beside them, as the checkpoint of a step.

        Raises OSError where the folder is full or cannot be written.
        """
        meta = about | {"metrics": rows, "sha256": _sum(Saved(state, rows))}
        try:
            self._manager.save(
                step,
                args=self._args.Composite(
                    state=self._args.PyTreeSave(state._asdict()), meta=self._args.JsonSave(meta)
                ),
            )
            self._manager.wait_until_finished()
        except Exception as error:  # tensorstore has its own words for a full disk
            raise OSError(_first_line(error)) from error

    def restore(self, like: Any) -> Saved | None:
        """The newest one that verifies, or None where there is no checkpoint at all.

        `like` is the state as it should be, on the devices where it should go. Checkpoints that
        do not verify are moved aside, so that they can be looked at and written anew.
        Raises UserError where there are checkpoints and none of them verifies.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        bad: dict[int, str] = {}
        found = None
        for step in steps:
            try:
                found = self._verified(step, like)
                break
            except Exception as error:  # whatever a damaged file makes of Orbax
                bad[step] = _first_line(error)
        if found is None and bad:
            listed = "; ".join(f"{step}: {reason}" for step, reason in bad.items())
            raise UserError(
                f"no checkpoint in {self._folder} can be used ({listed}). Nothing was changed. "
                "Restore one from a copy, or start anew with another --workdir"
            )
        for step, reason in bad.items():
            aside = self._folder.parent / "damaged" / str(step)
            self._log(f"checkpoint {step} is damaged ({reason}); moved to {aside}, going back one")
            if hosts.first():
                aside.parent.mkdir(exist_ok=True)
                shutil.rmtree(aside, ignore_errors=True)
                shutil.move(self._folder / str(step), aside)
        if bad:
            hosts.gathered(0)  # nobody looks before they are away
            self._manager.reload()
        return found

    def each(self, like: Any) -> Iterator[tuple[int, Saved]]:
        """Every checkpoint that verifies by its step, in order, its state shaped as `like`."""
        for step in sorted(self._manager.all_steps()):
            try:
                found = self._verified(step, like)
            except Exception as error:  # whatever a damaged file makes of Orbax
                self._log(f"checkpoint {step} is left out: {_first_line(error)}")
            else:
                yield step, found

    def _verified(self, step: int, like: Any) -> Saved:
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
        )
        fields = abstract._asdict()
        try:
            restored: Any = self._manager.restore(
                step,
                args=self._args.Composite(
                    state=self._args.PyTreeRestore(fields, self._restore_args(fields)),
                    meta=self._args.JsonRestore(),
                ),
            )
        except Exception:  # whatever a damaged file makes of Orbax
            hosts.gathered(1)
            raise
        if hosts.gathered(0).any():
            raise ValueError("another process cannot read it")
        if "metrics" not in restored.meta:
            raise ValueError("it was written before checkpoints held their rows of metrics.jsonl")
        saved = Saved(type(like)(**restored.state), restored.meta["metrics"])
        if _sum(saved) != restored.meta["sha256"]:
            raise ValueError("its contents do not match their SHA-256")
        return saved


def _sum(saved: Saved) -> str:
    rows = json.dumps(saved.rows, sort_keys=True)
    return hashlib.sha256((digest(saved.state) + rows).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "a file of it is not whole"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
