"""Experiments in files: what `--config` names."""

import contextlib
import dataclasses
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from lenet_jax.errors import UserError
from lenet_jax.experiment.baseline import Baseline
from lenet_jax.experiment.checks import require_local
from lenet_jax.experiment.experiment import Experiment, Page

PATIENCE = 20  # seconds that a page may run without a word

Asked = TypeVar("Asked", Experiment, Baseline)


def variant(base: Asked, variants: dict[str, dict[str, Any]], name: str) -> Asked:
    """`base`, or for a name the variant of it with these fields, called <base>-<name>.

    A variant says itself what was published for it, and whether it is reproduced. Raises
    UserError for the name of no variant.
    """
    if not name:
        return base
    if name not in variants:
        raise UserError(
            f"{base.name} has no variant {name!r}. There are: {', '.join(variants) or 'none'}"
        )
    own = {"name": f"{base.name}-{name}", "paper": None, "reproduced": None} | variants[name]
    return dataclasses.replace(base, **own)


def load(config: str) -> Experiment:
    """The experiment of `path/to/file.py[:variant]`: what its get_config([variant]) returns.

    Raises UserError for a file that is missing, does not run or returns something else.
    """
    page = load_page(config)
    if isinstance(page, Baseline):
        raise UserError(
            f"--config {config}: the method {page.method!r} is no network and has no epochs. "
            "It is measured by python -m lenet_jax.reproduce --set family"
        )
    return page


def folder() -> Path:
    """The package's own pages: experiments/ of a clone, or where a wheel has put them."""
    package = Path(__file__).parents[1]
    clone = package.parent / "experiments"
    return clone if (clone / "classic.py").exists() else package / "experiments"


def names() -> list[str]:
    """Of the package's own pages, as --config takes them."""
    return sorted(file.stem for file in folder().glob("*.py"))


def every() -> dict[str, Experiment | Baseline]:
    """The package's own pages and their variants, by what --config takes."""
    found = {}
    for name in names():
        own = str(folder() / f"{name}.py")  # whatever lies here by that name
        with _run(own) as (path, module):
            for variant in ("", *getattr(module, "VARIANTS", ())):
                config = f"{name}:{variant}".removesuffix(":")
                found[config] = _made(config, path, module)
    return found


def load_page(config: str) -> Experiment | Baseline:
    """As `load`, a classical baseline too."""
    with _run(config) as (path, module):
        return _made(config, path, module)


def _made(config: str, path: Path, module: Any) -> Experiment | Baseline:
    """What a page that runs gives for a config; raises UserError where that is something else."""
    file, _, variant = config.partition(":")
    if not hasattr(module, "get_config"):
        raise UserError(f"--config {file}: it has no get_config(); see experiments/classic.py")
    experiment = module.get_config(variant) if variant else module.get_config()
    if isinstance(experiment, Experiment):
        return dataclasses.replace(experiment, page=Page(path, variant, _texts(path)))
    if not isinstance(experiment, Baseline):
        raise UserError(
            f"--config {file}: get_config() returned {type(experiment).__name__}, expected a "
            "lenet_jax.experiment.Experiment"
        )
    return experiment


@contextlib.contextmanager
def _run(config: str) -> Iterator[tuple[Path, Any]]:
    """The file of `path/to/file.py[:variant]` and its module, while its imports can be used.

    Raises UserError for a file that is missing, and for whatever goes wrong in it.
    """
    require_local("config", config)
    file, _, _ = config.partition(":")
    path = Path(file)
    if not path.is_file() and file in names():
        path = folder() / f"{file}.py"
    if not path.is_file():
        raise UserError(
            f"--config {file}: no such file, and no page of the package, which are: "
            f"{', '.join(names())}"
        )
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config {file}: not a Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    remark = threading.Timer(
        PATIENCE, print, (f"--config {config} still runs after {PATIENCE} s; Ctrl-C stops it",),
        {"file": sys.stderr},
    )  # fmt: skip
    remark.daemon = True
    remark.start()
    try:
        with _beside(path.parent):
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
            yield path, module
    except UserError:
        raise
    except BaseException as error:  # whatever a user's file may raise, SystemExit too
        raise UserError(f"--config {config}: {type(error).__name__}: {error}") from error
    finally:
        remark.cancel()


def page_in(folder: Path, path: str, variant: str) -> Page | None:
    """The page that was read from `path`, as a run has kept it in a folder; None if it is gone."""
    kept = folder / Path(path).name
    if not kept.is_file():
        return None
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.py")}
    return Page(kept, variant, texts)


def _texts(page: Path) -> dict[str, str]:
    """A page's text, and those of the files beside it that it has imported, by their names."""
    beside = {file.stem: file for file in page.parent.glob("*.py")}
    return {
        file.name: file.read_text(encoding="utf-8")
        for name, file in beside.items()
        if getattr(sys.modules.get(name), "__file__", None) == str(file)
    }


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Imports find the folder's files first, and none of these stays.

    So a variant's `import classic` is the file beside it, whatever else is installed or was
    imported under that name, from another folder of pages too.
    """
    names = {file.stem for file in folder.glob("*.py")}

    def take_out() -> dict[str, Any]:
        found = [name for name in sys.modules if name.partition(".")[0] in names]
        return {name: sys.modules.pop(name) for name in found}

    others, path = take_out(), list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        take_out()
        sys.modules.update(others)
