"""What the programs share before their work begins: the configuration and the complaints."""

import argparse
import dataclasses
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import tyro

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.experiment import Experiment, Optimizer, pages
from lenet_jax.experiment.checks import require_local
from lenet_jax.settings import set_up_jax

# The flag, or the argument, of every verb that uses a trained network, and of those that read.
NETWORK: dict[str, Any] = {
    "default": pretrained.DEFAULT,
    "metavar": "NAME|FOLDER",
    "help": "a pretrained network, or the folder of a run (default: %(default)s)",
}

READER: dict[str, Any] = NETWORK | {"default": pretrained.READER}

# Another flag of theirs.
TRUST_PAGE: dict[str, Any] = {
    "action": "store_true",
    "help": "execute the page that a run keeps, where it made the network or the optimizer",
}


def called(verb: str) -> str:
    """How the user calls a verb: by the module, by the package or by the console command."""
    match Path(sys.argv[0]).name:
        case "lenet-jax" | "lenet-jax.exe":
            return f"lenet-jax {verb}"
        case "__main__.py":
            return f"python -m lenet_jax {verb}"
        case _:
            return f"python -m lenet_jax.{verb}"


def folder_for(kind: str, network: str, shown: str) -> Path:
    """Where a verb writes by default: evaluation/lenet5-best-mnist, say."""
    return Path(kind) / f"{Path(network).resolve().name}-{re.sub(r'[^A-Za-z0-9]+', '-', shown)}"


def out_folder(path: Path, flag: str = "out") -> Path:
    """The folder of --out, or of another flag, made where there is none.

    Raises UserError for a URL, for a path that is a file, and for one that cannot be written.
    """
    require_local(flag, path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(None, "Permission denied")
    except OSError as error:
        raise UserError(
            f"--{flag} {path}: {error.strerror}. Give a folder that can be written"
        ) from error
    return path


def parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a verb; its help keeps the lines of the description."""
    return argparse.ArgumentParser(
        called(verb),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def experiment(verb: str, description: str, arguments: Sequence[str]) -> Experiment:
    """The experiment of `--config file.py[:variant]`, its fields overridden by the other flags.

    `--optimizer NAME` puts one of the package's in the place of the page's, with its own flags.

    Prints the help with the file's own values and exits for --help. Raises UserError for a file
    that is no experiment and SystemExit(2), after saying why, for an unknown flag.
    """
    program = called(verb)
    usage = f"{program} --config experiments/classic.py[:variant] [flags of the experiment]"
    first = argparse.ArgumentParser(
        program, usage, description, add_help=False, allow_abbrev=False, exit_on_error=False
    )
    first.add_argument("--config")
    first.add_argument("--optimizer")
    try:
        given, flags = first.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}. Give it a file: {usage}") from error
    if given.config is None:
        if {"-h", "--help"} & set(flags):
            print(
                f"usage: {usage}\n\n{description}\n\nThe flags: {program} --config FILE --help\n"
                f"Pages of the package, by name: {', '.join(pages.names())}"
            )
            raise SystemExit(0)
        raise UserError(f"no --config given. The way: {usage}")
    set_up_jax()  # the page's network imports it
    return tyro.cli(
        Experiment,
        default=with_optimizer(pages.load(given.config), given.optimizer),
        args=flags,
        prog=f"{program} --config {given.config}",
        description=f"{description}\n\n--optimizer {'|'.join(OPTIMIZERS)} takes another optimizer, "
        "with flags of its own.",
        config=(tyro.conf.AvoidSubcommands,),
    )


OPTIMIZERS = {each.__name__.lower(): each for each in get_args(Optimizer)}


def with_optimizer(experiment: Experiment, name: str | None) -> Experiment:
    """The experiment with an optimizer by its name, of its own values where it has that one."""
    if name is None:
        return experiment
    if name not in OPTIMIZERS:
        raise UserError(f"--optimizer {name}: there are {', '.join(OPTIMIZERS)}")
    if type(experiment.optimizer) is OPTIMIZERS[name]:
        return experiment
    return dataclasses.replace(experiment, optimizer=OPTIMIZERS[name]())


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Lossy(io.FileIO):
    """A file that loses what it has no room for."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content) or 0
        except OSError:
            return len(content)


def open_streams() -> None:
    """Makes a program work whatever became of its streams: closed, or stderr's disk full.

    A closed one's number would be that of the next file which is opened, and libraries write to 2.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is sys.__stderr__:  # else a test's, or a notebook's
        file = io.BufferedWriter(_Lossy(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(file, errors="backslashreplace", line_buffering=True)


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Calls a program's main with the arguments; a UserError becomes a message and exit code 2."""
    open_streams()
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
        print(f"error: {error}. Solve that and give the same command again", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # before training began there is nothing to save
        code = 130
    sys.exit(code)
