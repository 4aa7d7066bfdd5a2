"""The examples of docs/extending.md, as a reader would run them."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

BLOCKS = re.findall(
    r"```python\n# (\S+)\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL
)
PAGES = {name: text for name, text in BLOCKS if "/" not in name}


def test_every_example_is_run_here():
    assert list(PAGES) == ["mine.py", "lion.py", "cosine.py", "signs.py"]
    assert [name for name, _ in BLOCKS if name not in PAGES] == ["lenet_jax/count.py"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_trains(name, program, tmp_path):
    page, run = tmp_path / name, tmp_path / "run"
    page.write_text(PAGES[name])
    flags = ["--config", page, "--workdir", run]
    if name == "mine.py":
        flags += ["--model.channels", "4"]
    if name == "cosine.py":
        flags += ["--optimizer.learning-rate", "0.01"]
    done = program("train", *flags)
    assert done.returncode == 0, done.stderr
    config = json.loads((run / "config.json").read_text())
    if name == "mine.py":
        assert config["model"] == {"is": "page:Mine", "channels": 4}
    if name == "cosine.py":
        assert config["optimizer"] == {"is": "page:Cosine", "learning_rate": 0.01}
    if name == "signs.py":
        assert config["model"]["classes"] == 12 and config["dataset_classes"] == 12
    evaluated = program("evaluate", run, "--out", tmp_path / "out")
    assert evaluated.returncode == 0, evaluated.stderr


def test_the_notebook_runs_from_its_first_cell_to_its_last(environment):
    notebook = nbformat.read(ROOT / "docs" / "lenet5.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none is stored
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.delenv("LENET_JAX_MNIST", raising=False)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=600, resources=resources).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [o for c in code for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    read, labels = ast.literal_eval(code[-1].outputs[0]["data"]["text/plain"])
    assert len(read) == len(labels) == 5
    assert sum(a == b for a, b in zip(read, labels, strict=True)) >= 4


def test_a_verb_is_a_file(tmp_path):
    shutil.copytree(ROOT / "lenet_jax", tmp_path / "lenet_jax")
    for name, text in BLOCKS:
        if name not in PAGES:
            (tmp_path / name).write_text(text)
    main = tmp_path / "lenet_jax" / "__main__.py"
    main.write_text(main.read_text().replace('"reproduce")', '"reproduce", "count")'))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for command in (["lenet_jax.count"], ["lenet_jax", "count", "lenet5-classic"]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        # With the 900 places in the kernel of C3 where Table I has no connection.
        assert done.stdout == "60900\n", done.stderr
