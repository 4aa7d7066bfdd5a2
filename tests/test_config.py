import ast
import re
import sys
import types
from pathlib import Path

import pytest
from conftest import ROOT

from lenet_jax import reproduce
from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    MAP,
    SDLM,
    SGD,
    Adam,
    Baseline,
    CrossEntropy,
    Data,
    Experiment,
    Muon,
    pages,
)
from lenet_jax.measurement import counting
from lenet_jax.models import lenet
from lenet_jax.models.connected import FullyConnected
from lenet_jax.models.lenet import LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.reproduction import sets

BELOW = {
    "arithmetic": set(),
    "graphs": set(),
    "layers": {"arithmetic"},
    "segmentation": set(),
    "data": {"experiment", "models", "layers", "segmentation", "settings"},
    "models": {"layers"},
    "native": {"data", "layers", "settings"},
    "experiment": {"models"},
}
BELOW["training"] = {"experiment", "layers", "models", "data", "native", "graphs"}
BELOW["pretrained"] = {"experiment", "layers", "models", "data"}
BELOW["recognition"] = BELOW["training"] | {"training", "pretrained", "segmentation"}
BELOW["serving"] = BELOW["measurement"] = BELOW["recognition"] | {"recognition"}
BELOW["exporting"] = BELOW["inspection"] = BELOW["recognition"] | {"recognition", "arithmetic"}
BELOW["baselines"] = BELOW["measurement"] | {"measurement"}
BELOW["reports"] = BELOW["measurement"] | {"measurement", "inspection"}
BELOW["reproduction"] = BELOW["reports"] | {"reports", "baselines"}


def imported(source, room):
    """What a file in a room of the package imports of it: rooms, and modules of its root."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["lenet_jax", room][: 3 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.findall(r"^lenet_jax\.[a-z_.]+", node.value)  # for importlib
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("lenet_jax.")}
    return found


@pytest.mark.parametrize(
    "source, rooms",
    [
        ("from lenet_jax.training import loop", {"training"}),
        ("from lenet_jax.training.loop import train", {"training"}),
        ("from lenet_jax import errors, training", {"errors", "training"}),
        ("import lenet_jax.training.loop", {"training"}),
        ("import numpy, lenet_jax.training as t", {"training"}),
        ("from ..training import loop", {"training"}),
        ("from .. import training", {"training"}),
        ("def later():\n    from lenet_jax import training", {"training"}),
        ("class Lazy:\n    def f(self):\n        import lenet_jax.training", {"training"}),
        ("from . import layers\nfrom .codes import codes", {"models"}),
        ("importlib.import_module(f'lenet_jax.training.{name}')", {"training"}),
        ("import lenet_jax\nimport training, other.lenet_jax.training", set()),
    ],
)
def test_every_form_of_import_is_seen(source, rooms):
    assert imported(source, "models") == rooms


def test_arrows_between_the_rooms_point_one_way():
    seen = 0
    for file in sorted((ROOT / "lenet_jax").glob("*/*.py")):
        room = file.parent.name
        targets = imported(file.read_text(), room)
        assert targets <= BELOW[room] | {room, "errors"}, file
        seen += len(targets)
    assert seen > 30


def test_no_module_needs_unix_to_be_imported():
    """What Windows does not have is imported where it is used, behind a question."""
    unix = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for file in (ROOT / "lenet_jax").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                assert not unix & {alias.name for alias in node.names}, file
            assert not (isinstance(node, ast.ImportFrom) and node.module in unix), file


def test_the_papers_schedule():
    experiment = pages.load(str(ROOT / "experiments" / "classic.py"))
    sdlm = experiment.optimizer
    assert isinstance(sdlm, SDLM)
    rates = sdlm.learning_rates
    per_epoch = [rates[min(n, len(rates) - 1)] for n in range(20)]
    assert per_epoch == [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert (sdlm.mu, sdlm.samples) == (0.02, 500)
    assert (experiment.epochs, experiment.batch_size, experiment.order) == (20, 1, "fixed")


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
        pages.load(str(file))
    assert str(file) in str(error.value)


def test_a_page_imports_the_file_beside_it_and_leaves_nothing(tmp_path, monkeypatch):
    """Whatever else goes by that name, and though two folders of pages have one each."""
    other = types.ModuleType("base")
    monkeypatch.setitem(sys.modules, "base", other)
    before = sys.path.copy()
    page = "import base, further\nget_config = further.get_config"
    further = "def get_config():\n    import base\n    return base.EXPERIMENT"
    base = "import sys\nsys.path.append('left behind')\n" + (
        "from lenet_jax.experiment import Experiment\nEXPERIMENT = Experiment(name='{}')"
    )
    for name in ("mine", "yours", "mine"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, text in (("page", page), ("further", further), ("base", base)):
            (folder / f"{file}.py").write_text(text.format(name))
        assert pages.load(str(folder / "page.py")).name == name
        assert sys.modules["base"] is other and not {"page", "further"} & sys.modules.keys()
        assert sys.path == before
    (tmp_path / "mine" / "base.py").write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        pages.load(str(tmp_path / "mine" / "page.py"))
    assert sys.modules["base"] is other and sys.path == before


def test_seeds_are_counted_from_the_first():
    def seeds(**given):
        return list(Experiment(name="x", **given).all_seeds)

    assert seeds() == [0] and seeds(seed=7) == [7] == seeds(seed=7, seeds=(1,))
    assert seeds(seed=4, seeds=(3,)) == [4, 5, 6]
    assert seeds(seed=4, seeds=(3, 9)) == [3, 9]
    assert seeds(seed=2**32 - 2, seeds=(2,)) == [2**32 - 2, 2**32 - 1]
    assert len(seeds(seeds=(10**6,))) == 10**6


@pytest.mark.parametrize("number", [0, -1, 10**6 + 1, 10**8, 10**10, 10**30])
def test_seeds_that_no_machine_could_hold_are_refused_by_their_number(number):
    with pytest.raises(UserError, match=f"--seeds is {number}, .* at most 1,000,000"):
        Experiment(name="x", seeds=(number,))
    for seed, seeds in ((2**32 - 1, (2,)), (0, (-1, 0)), (0, (0, 2**32))):
        with pytest.raises(UserError, match="each from 0 to 4294967295"):
            Experiment(name="x", seed=seed, seeds=seeds)


def test_reproduce_counts_seeds_as_train_does():
    for flags, seeds in (
        ([], range(10)),
        (["--seed", "7", "--seeds", "1"], [7]),
        (["--seed", "7", "--seeds", "2"], [7, 8]),
        (["--seeds", "3", "5"], [3, 5]),
    ):
        made = sets.prepared(*sets.reproduced()["classic"], reproduce.parse(flags))
        assert isinstance(made, Experiment)
        assert list(made.all_seeds) == list(seeds)


def test_the_classical_methods_are_those_of_the_paper():
    """Section III-C: k = 3 neighbours, 40 principal components, polynomials of degree 4 and 9."""
    every = {name: page for name, page in pages.every().items() if isinstance(page, Baseline)}
    assert len(every) == 9
    chosen = {name.partition(":")[2]: page for name, page in every.items()}
    assert chosen["neighbours"].neighbours == chosen["neighbours-deslanted"].neighbours == 3
    assert chosen["quadratic"].components == 40 and chosen["rbf"].units == 1000
    assert (chosen["svm"].degree, chosen["virtual-svm"].degree) == (4, 9)
    assert {name for name, page in chosen.items() if page.deslanted} == {
        "linear-deslanted", "neighbours-deslanted",
    }  # fmt: skip
    methods = {name: page.method for name, page in chosen.items()}
    assert methods.pop("") == methods.pop("linear-deslanted") == "linear"
    assert methods.pop("neighbours-deslanted") == "neighbours"
    assert all(name == method for name, method in methods.items())


def test_what_nothing_else_says_is_our_choice_in_paper_md():
    """Eq. 9 with j = 10."""
    assert Experiment(name="x").loss == MAP() == MAP(10.0)
    with pytest.raises(UserError, match="--loss.j is 0, .*example: 10"):
        MAP(j=0)


def test_values_out_of_range_are_refused():
    for make in (
        lambda: SGD(learning_rate=0.0),
        lambda: SGD(momentum=1.0),
        lambda: Adam(learning_rate=-0.1),
        lambda: Muon(adam_learning_rate=0.0),
        lambda: FullyConnected(hidden=(300, 0)),
        lambda: FullyConnected(hidden=(10**9,)),
        lambda: Nielsen(maps=(-20,)),
        lambda: Nielsen(maps=(20, 40, 60)),
        lambda: Nielsen(dropout=1.0),
        lambda: Nielsen(dropout=-0.1),
        lambda: MAP(j=0),
        lambda: SDLM(mu=-0.02),
        lambda: SDLM(samples=0),
        lambda: SDLM(learning_rates=()),
        lambda: Data(limit=0),
        lambda: Data(validation=-1),
        lambda: Experiment(name="x", epochs=0),
        lambda: Experiment(name="x", batch_size=0),
        lambda: Experiment(name="x", seed=-1),
        lambda: Experiment(name="x", loss=CrossEntropy()),
        lambda: Experiment(name="x", model=LeNet5(head="linear")),
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
    assert sum(layer.connections or 0 for layer in full) == 340_908 + 36 * 25 * 100
    adaptive = counting.count(lenet.LeNet5(adaptive=True))
    assert sum(layer.parameters for layer in adaptive) == 60_840
    linear = counting.count(lenet.LeNet5(head="linear"))
    assert (linear[-1].parameters, linear[-1].connections) == (850, 850)


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.py")), ids=lambda f: f.stem)
def test_every_experiment_loads_and_is_named_after_its_file(file):
    assert pages.load_page(str(file)).name == file.stem


def test_seeds_are_a_list_or_how_many():
    assert list(Experiment("x", seeds=(0, 4294967295)).all_seeds) == [0, 4294967295]
    assert list(Experiment("x", seed=7, seeds=(3,)).all_seeds) == [7, 8, 9]
    assert list(Experiment("x", seed=7).all_seeds) == [7]
    for wrong in ((0, 4294967296), (-1, 2), (5, 5)):
        with pytest.raises(UserError, match="--seeds is"):
            Experiment("x", seeds=wrong)
