"""The verbs: python -m lenet_jax <verb>, or lenet-jax <verb>."""

import ast
import importlib
from collections.abc import Sequence
from pathlib import Path

from lenet_jax import commandline
from lenet_jax.errors import UserError

VERBS = ("train", "evaluate", "predict", "summary", "visualize", "export", "serve", "reproduce")


def main(arguments: Sequence[str]) -> int:
    """Runs the verb that comes first, or lists them all; returns the exit code."""
    verb, *others = arguments or ["--help"]
    if verb in ("-h", "--help"):
        called = commandline.called("<verb>")
        print(f"usage: {called} [its flags; --help shows them]\n")
        for name in VERBS:
            print(f"  {name:10} {first_line(name)}")
        return 0
    if verb not in VERBS:
        raise UserError(f"{verb}: no such verb. There are: {', '.join(VERBS)}")
    return importlib.import_module(f"lenet_jax.{verb}").main(others)


def first_line(verb: str) -> str:
    """What a verb's file says of it first, without its command; the file is not imported."""
    source = (Path(__file__).parent / f"{verb}.py").read_text(encoding="utf-8")
    line = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return line.partition(": python -m")[0].rstrip(".")


def console() -> None:
    """The command lenet-jax."""
    commandline.run(main)


if __name__ == "__main__":
    console()
