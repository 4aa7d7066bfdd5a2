import ast
import dataclasses
from pathlib import Path

import pytest
from conftest import ROOT

from lenet_jax.analysis import counting
from lenet_jax.errors import UserError
from lenet_jax.models import lenet
from lenet_jax.training import config

BELOW = {"models": set(), "data": set(), "training": {"models", "data"}}
BELOW["pretrained"] = {"models", "data"}
BELOW["recognition"] = BELOW["training"] | {"training", "pretrained"}
BELOW["exporting"] = BELOW["serving"] = BELOW["recognition"] | {"recognition"}
BELOW["analysis"] = BELOW["recognition"] | {"recognition"}
BELOW["rivals"] = BELOW["analysis"] | {"analysis"}


def test_arrows_between_the_rooms_point_one_way():
    seen = 0
    for file in sorted((ROOT / "lenet_jax").glob("*/*.py")):
        room = file.parent.name
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lenet_jax."):
                target = (node.module or "").split(".")[1]
                assert target in BELOW[room] | {room, "errors"}, f"{file} imports {target}"
                seen += 1
    assert seen > 10


def test_configuration_has_the_fields_of_the_network():
    ours = {f.name: f.default for f in dataclasses.fields(config.LeNet5)}
    theirs = {
        f.name: f.default
        for f in dataclasses.fields(lenet.LeNet5)
        if f.name not in ("parent", "name")
    }
    assert ours == theirs


def test_the_papers_schedule():
    experiment = config.load(str(ROOT / "experiments" / "classic.py"))
    sdlm = experiment.optimizer
    assert isinstance(sdlm, config.SDLM)
    rates = sdlm.learning_rates
    per_pass = [rates[min(n, len(rates) - 1)] for n in range(20)]
    assert per_pass == [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert (sdlm.mu, sdlm.samples) == (0.02, 500)
    assert (experiment.passes, experiment.batch_size, experiment.order) == (20, 1, "fixed")


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "no such file"),
        ("def get_config(:", "SyntaxError"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("x = 1", "no get_config"),
        ("def get_config(): return 3", "returned int"),
        ("def get_config(): raise KeyError('seed')", "KeyError"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_bad_config_file_is_refused_with_its_reason(tmp_path, content, reason):
    file: Path = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=reason) as error:
        config.load(str(file))
    assert str(file) in str(error.value)


def test_values_out_of_range_are_refused():
    for make in (
        lambda: config.MAP(j=0),
        lambda: config.SDLM(mu=-0.02),
        lambda: config.SDLM(samples=0),
        lambda: config.SDLM(learning_rates=()),
        lambda: config.Data(limit=0),
        lambda: config.Data(validation=-1),
        lambda: config.Experiment(name="x", passes=0),
        lambda: config.Experiment(name="x", batch_size=0),
        lambda: config.Experiment(name="x", seed=-1),
        lambda: config.Experiment(name="x", loss=config.CrossEntropy()),
        lambda: config.Experiment(name="x", model=config.LeNet5(head="linear")),
    ):
        with pytest.raises(UserError, match="allowed|does not go"):
            make()


def test_counts_are_the_papers():
    rows = {
        layer.name: (layer.maps, layer.height, layer.parameters, layer.fixed, layer.connections)
        for layer in counting.count(lenet.LeNet5())
    }
    assert rows == {
        "c1": (6, 28, 156, 0, 122_304),
        "s2": (6, 14, 12, 0, 5_880),
        "c3": (16, 10, 1_516, 0, 151_600),
        "s4": (16, 5, 32, 0, 2_000),
        "c5": (120, 1, 48_120, 0, 48_120),
        "f6": (84, 1, 10_164, 0, 10_164),
        "output": (10, 1, 0, 840, 840),
    }


def test_another_network_has_other_counts():
    full = counting.count(lenet.LeNet5(table="full"))
    assert sum(layer.parameters for layer in full) == 60_000 + 36 * 25
    assert sum(layer.connections for layer in full) == 340_908 + 36 * 25 * 100
    adaptive = counting.count(lenet.LeNet5(adaptive=True))
    assert sum(layer.parameters for layer in adaptive) == 60_840
    linear = counting.count(lenet.LeNet5(head="linear"))
    assert (linear[-1].parameters, linear[-1].connections) == (850, 850)


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.py")), ids=lambda f: f.stem)
def test_every_experiment_loads_and_is_named_after_its_file(file):
    assert config.load_page(str(file)).name == file.stem
