"""What the programs share before their work begins: the configuration and the complaints."""

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.experiment import Experiment, pages

# The flag, or the argument, of every verb that uses a trained network.
NETWORK: dict[str, Any] = {
    "default": pretrained.DEFAULT,
    "metavar": "NAME|FOLDER",
    "help": "a pretrained network, or the folder of a run (default: %(default)s)",
}

# Another flag of theirs.
TRUST_PAGE: dict[str, Any] = {
    "action": "store_true",
    "help": "execute the page that a run keeps, where it made the network or the optimizer",
}


def parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m lenet_jax.<verb>`; its help keeps the lines of the description."""
    return argparse.ArgumentParser(
        f"python -m lenet_jax.{verb}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def experiment(program: str, description: str, arguments: Sequence[str]) -> Experiment:
    """The experiment of `--config file.py[:variant]`, its fields overridden by the other flags.

    Prints the help with the file's own values and exits for --help. Raises UserError for a file
    that is no experiment and SystemExit(2), after saying why, for a flag that is none.
    """
    usage = f"{program} --config experiments/classic.py[:variant] [flags of the experiment]"
    first = argparse.ArgumentParser(
        program, usage, description, add_help=False, allow_abbrev=False, exit_on_error=False
    )
    first.add_argument("--config")
    try:
        given, flags = first.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}. Give it a file: {usage}") from error
    if given.config is None:
        if {"-h", "--help"} & set(flags):
            print(f"usage: {usage}\n\n{description}\n\nThe flags: {program} --config FILE --help")
            raise SystemExit(0)
        raise UserError(f"no --config given. The way: {usage}")
    set_up_jax()  # the page's network imports it
    return tyro.cli(
        Experiment,
        default=pages.load(given.config),
        args=flags,
        prog=f"{program} --config {given.config}",
        description=description,
        config=(tyro.conf.AvoidSubcommands,),
    )


def set_up_jax() -> None:
    """Settings that jax reads when it is imported; what the user has set stays.

    Compiled programs are kept in the user's cache folder (JAX_ENABLE_COMPILATION_CACHE=false
    turns that off). jax sees each core of a CPU as a device of its own: the cores then share a
    batch or the seeds as devices do, with a thread each, and meet once for an update, where
    threads would meet in each of its small operations.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lenet_jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))
    os.environ.setdefault("NPROC", "1")


def cores() -> int:
    """How many cores this program may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux's
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Calls a program's main with the arguments; a UserError becomes a message and exit code 2."""
    # On a full disk or a damaged checkpoint Orbax and TensorBoard's writer leave coroutines and
    # threads behind, whose pages of traceback would bury the message.
    sys.unraisablehook = threading.excepthook = lambda _: None
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # who reads the output, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is not yet out
        code = 0
    except OSError as error:  # no room for a picture, say: what was saved before stays
        print(f"error: {error}. Mend that and give the same command again", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # before training began there is nothing to save
        code = 130
    sys.exit(code)
