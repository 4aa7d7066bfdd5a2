"""Exported files, read by the programs that they are for."""

import importlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from jax import export
from onnx import numpy_helper
from safetensors.numpy import load_file

from lenet_jax import pretrained
from lenet_jax.data import dataset
from lenet_jax.errors import UserError
from lenet_jax.experiment import MAP, Experiment, pages, serialization
from lenet_jax.exporting import formats
from lenet_jax.exporting import onnx as onnx_format
from lenet_jax.exporting import page as page_format
from lenet_jax.exporting.formats import FORMATS
from lenet_jax.layers.codes import codes
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.inputs import normalize
from lenet_jax.models.connected import FullyConnected
from lenet_jax.models.lenet import TABLE_I, LeNet1, LeNet4, LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.models.tutorial import Tutorial
from lenet_jax.recognition import networks
from lenet_jax.recognition.predictor import predictor
from lenet_jax.training import loop

# Those that hold any network, in float32; tests/test_export_page.py has the page.
EXACT = {name: format for name, format in FORMATS.items() if name != "page"}

MODELS = {
    "paper": {},
    "full table": {"table": "full"},
    "adaptive codes": {"adaptive": True},
    "softmax": {"head": "linear"},
}


def trained(fields):
    """A network with parameters of some size, none zero (outside Table I neither), and its card."""
    module = LeNet5(**fields)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32)))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 99))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params)
    card = {
        "experiment": "test",
        "config": {"model": {"is": "lenet_jax.models.lenet:LeNet5", **fields}},
    }
    return module, params, card


def read_by_others(name, path):
    """The scores of a file as a function of images, by what users would read it with."""
    if name == "onnx":
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(["scores"], {"images": images})[0]
    if name == "stablehlo":
        return export.deserialize(bytearray(path.read_bytes())).call
    return format_of(name).read(path)


def format_of(name):
    return importlib.import_module(f"lenet_jax.exporting.{name}")


def close(found, scores):
    """To 1e-5, measured by the largest score."""
    assert found.shape == scores.shape and np.asarray(found).dtype == np.float32
    np.testing.assert_allclose(found, scores, rtol=0, atol=1e-5 * np.abs(scores).max())


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    """Every kind of network in every format: module, params, scores of all digits, files."""
    found = {}
    for kind, fields in MODELS.items():
        written = trained(fields)
        scores = predictor(*written[:2])(digits[0])
        files = {}
        for name, format in EXACT.items():
            files[name] = tmp_path_factory.mktemp("exported") / f"x{format.suffix}"
            format_of(name).write(files[name], *written)
        found[kind] = *written[:2], scores, files
    return found


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("kind", MODELS)
def test_a_file_gives_the_networks_scores_for_any_number_of_images(exported, digits, kind, name):
    _, _, scores, files = exported[kind]
    read = read_by_others(name, files[name])
    for number in (len(scores), 1, 7) if name in ("onnx", "stablehlo") else (len(scores),):
        close(read(digits[0][:number]), scores[:number])


@pytest.mark.parametrize(
    "model",
    [
        LeNet1(),
        LeNet4(),
        LeNet5(pooling="average", activation="sigmoid", head="gaussian"),
        Tutorial(activation="relu"),
        FullyConnected(),
        Nielsen(maps=(20, 40), hidden=(100,), dropout=0.5),
    ],
    ids=str,
)
def test_the_family_as_onnx(digits, tmp_path, model):
    module = model
    image = normalize(jnp.zeros((1, 28, 28)), module.frame)
    params = jax.jit(module.init)(jax.random.key(0), image)["params"]
    if "codes" in params.get("output", {}):  # near F6, or the Gaussians would all be 0
        params["output"]["codes"] = 0.4 + 0.1 * params["output"]["codes"]
    else:  # Nielsen's outputs begin at 0
        params["output"]["kernel"] += 0.1 * jax.random.normal(
            jax.random.key(1), params["output"]["kernel"].shape
        )
    scores = predictor(module, params)(digits[0][:50])
    assert np.ptp(scores) > 0.1 * np.abs(scores).max()
    onnx_format.write(tmp_path / "x.onnx", module, params, {})
    close(read_by_others("onnx", tmp_path / "x.onnx")(digits[0][:50]), scores)


@pytest.mark.parametrize(
    "terms, dimensions",
    [
        ("nij,ikm->nm", (((1,), (0,)), ((), ()))),
        ("nij,ijm->nm", (((1, 2), (0, 1)), ((), ()))),
        ("nij,jim->nm", (((2,), (0,)), ((1,), (1,)))),
    ],
)
def test_products_as_onnx(digits, tmp_path, terms, dimensions):
    weights = np.random.default_rng(0).normal(size=(28, 28, 3)).astype(np.float32)

    def product(images):
        sums = jax.lax.dot_general(images.astype(jnp.float32), weights, dimensions)
        return sums if sums.ndim == 2 else sums.sum({3: 0, 4: (1, 2)}[sums.ndim])

    onnx.save(onnx_format.convert(product, (28, 28)), tmp_path / "x.onnx")
    theirs = np.einsum(terms, digits[0][:5].astype(np.float64), weights)
    close(read_by_others("onnx", tmp_path / "x.onnx")(digits[0][:5]), theirs)


def test_torchs_layout(exported):
    module, params, _, files = exported["paper"]
    state = load_file(files["torch"])
    assert {name: array.shape for name, array in state.items()} == {
        "c1.weight": (6, 1, 5, 5), "c1.bias": (6,),
        "s2.coefficient": (6,), "s2.bias": (6,),
        "c3.weight": (16, 6, 5, 5), "c3.bias": (16,),
        "s4.coefficient": (16,), "s4.bias": (16,),
        "c5.weight": (120, 16, 5, 5), "c5.bias": (120,),
        "f6.weight": (84, 120), "f6.bias": (84,),
        "codes": (10, 84),
    }  # fmt: skip
    for row, reads in enumerate(TABLE_I):
        connected = [i for i in range(6) if state["c3.weight"][row, i].any()]
        assert connected == sorted(reads)
    outside = Convolution(16, table=TABLE_I).mask(6) == 0
    assert np.asarray(params["c3"]["kernel"])[outside].all()  # so the zeros are the export's
    np.testing.assert_array_equal(state["codes"], codes())


def c3_in(name, path) -> np.ndarray:
    """The weights of C3 that a file shows, by the format's own reader, [16, 6, 25]."""
    if name == "onnx":
        constants = map(numpy_helper.to_array, onnx.load(path).graph.initializer)
        (weights,) = (array for array in constants if array.size == 2400)
    elif name == "stablehlo":
        text = export.deserialize(bytearray(path.read_bytes())).mlir_module()
        (digits,) = re.findall(r'dense<"0x([0-9A-F]+)"> : tensor<16x(?:150|6x5x5)xf32>', text)
        weights = np.frombuffer(bytes.fromhex(digits), "<f4")
    elif name == "page":
        weights = page_format.load(path)["c3.weight"]
    else:
        weights = load_file(path)["c3.weight" if name == "torch" else "c3.kernel"]
    return weights.reshape(16, 6, 25)


@pytest.mark.parametrize("network_name", pretrained.names())
def test_no_file_has_a_weight_where_table_i_has_no_connection(network_name, tmp_path):
    """The table once more, from the paper: for each map of C3 the maps of S2 that it reads."""
    reads = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345".split()
    connected = np.array([[str(i) in row for i in range(6)] for row in reads])
    assert connected.sum() == 60
    loaded = networks.load(network_name)
    shown = {"package": np.reshape(loaded.params["c3"]["kernel"], (16, 6, 25))}
    for name, format in FORMATS.items():
        path = tmp_path / f"x{format.suffix}"
        format_of(name).write(path, loaded.module, loaded.params, loaded.card)
        shown[name] = c3_in(name, path)
    for weights in shown.values():
        np.testing.assert_array_equal((weights != 0).any(axis=2), connected)
        np.testing.assert_array_equal(weights, shown["package"])


@pytest.mark.parametrize("kind", ["paper", "full table", "adaptive codes"])
def test_the_torch_module_of_the_readme(exported, digits, kind, tmp_path, monkeypatch):
    torch = pytest.importorskip(
        "torch", reason="no torch to run the README's module: pip install torch"
    )
    _, _, scores, files = exported[kind]
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL
    )
    (snippet,) = [block for block in blocks if "import torch" in block]
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "lenet5-best.torch.safetensors").symlink_to(files["torch"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippet, names)
    with torch.no_grad():
        close(names["network"](torch.tensor(digits[0])).numpy(), scores)


def test_a_linear_head_in_torchs_layout(exported):
    state = load_file(exported["softmax"][3]["torch"])
    assert "codes" not in state
    assert state["output.weight"].shape == (10, 84) and state["output.bias"].shape == (10,)


@pytest.mark.parametrize("name", EXACT)
def test_a_damaged_file_is_noticed(exported, digits, name, tmp_path):
    _, params, scores, files = exported["paper"]
    read = format_of(name).read
    content = files[name].read_bytes()
    for kept in (0, 100, len(content) // 2, len(content) - 20):
        (tmp_path / "short").write_bytes(content[:kept])
        with pytest.raises(UserError, match="short is no.* damaged"):
            read(tmp_path / "short")
    flipped = bytearray(content)
    weight = content.index(np.asarray(params["c5"]["kernel"]).tobytes()[:16])
    flipped[weight + 3] ^= 0x40  # the highest bit of its exponent
    (tmp_path / "flipped").write_bytes(flipped)
    if "safetensors" in FORMATS[name].suffix:
        with pytest.raises(UserError, match="SHA-256"):
            read(tmp_path / "flipped")
    else:  # these have no checksum; the command's comparison is what notices
        found = read(tmp_path / "flipped")(digits[0][:100])
        assert np.abs(found - scores[:100]).max() > formats.TOLERANCE * np.abs(scores).max()


@pytest.mark.parametrize("wrong", [1e-4, np.nan])
def test_other_scores_are_refused_and_leave_what_was_there(digits, tmp_path, wrong):
    written = trained({})
    scores = predictor(*written[:2])(digits[0][:20])
    path = tmp_path / "x.onnx"
    path.write_text("from before")
    other = scores + wrong * np.abs(scores).max()
    with pytest.raises(UserError, match="the onnx file gives other scores"):
        formats.export("onnx", path, networks.TrainedNetwork(*written), digits[0][:20], other)
    assert path.read_text() == "from before" and os.listdir(tmp_path) == ["x.onnx"]


@pytest.mark.parametrize(
    "function, named",
    [
        (lambda x: jnp.sort(x.astype(jnp.float32).sum(1)), "sort of .*float32"),
        (lambda x: x.astype(jnp.float32).cumsum(1), "cumsum"),
        (lambda x: jax.lax.scan(lambda c, y: (c + y, y), x[:, 0], x.swapaxes(0, 1))[0], "scan"),
        (lambda x: jnp.broadcast_to(x.sum((0, 1))[None], (x.shape[0], 28)), "broadcast_in_dim"),
    ],
)
def test_onnx_names_what_it_has_no_rule_for(function, named):
    with pytest.raises(UserError, match=f"no ONNX for jax's {named}.*tanh.*stablehlo"):
        onnx_format.convert(function, (28, 28))


def test_a_configuration_comes_back_from_json():
    for path in sorted((ROOT / "experiments").glob("*.py")):
        experiment = pages.load_page(str(path))
        assert (
            serialization.from_json(json.loads(json.dumps(serialization.as_json(experiment))))
            == experiment
        )


def refused(done, *reasons):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for reason in reasons:
        assert reason in done.stderr, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run of two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "classic"
    experiment = Experiment(name="classic", loss=MAP(10.0), epochs=2, seeds=(3, 5))
    loop.train(experiment, dataset.embedded(150), folder, lambda _: None)
    return folder


def test_the_program_exports_a_run(program, run, digits, tmp_path):
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    done = program("export", "--network", run, "--out", tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stderr
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before
    paths = {
        name: tmp_path / "new" / "folder" / f"classic{f.suffix}" for name, f in FORMATS.items()
    }
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        p.name for p in paths.values()
    }
    assert all(str(path) in done.stdout for path in paths.values())
    result = json.loads((run / "result.json").read_text())
    images, labels = (array[-300:] for array in digits)  # what the run was tested on
    for name, path in paths.items():
        predictions = np.asarray(read_by_others(name, path)(images)).argmax(1)
        assert (predictions != labels).sum() == result["test_errors"][0]
    metadata = {p.key: p.value for p in onnx.load(paths["onnx"]).metadata_props}
    card = json.loads(metadata["card"])
    assert card["seed"] == 3 and card["dataset"] == "uci-digits" and card["updates"] == 300


def test_a_damaged_checkpoint_is_passed_over_and_stays(run, tmp_path):
    copy = copied(run, tmp_path)
    newest = max((copy / "checkpoints").iterdir(), key=lambda p: int(p.name))
    largest = max((newest / "state").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    said = []
    card = networks.load(str(copy), said.append).card
    assert card["updates"] == 150 and "checkpoint 300 is left out" in said[0]
    assert sorted(p.name for p in (copy / "checkpoints").iterdir()) == ["150", "300"]
    assert not (copy / "damaged").exists()


def copied(run, folder) -> Path:
    return shutil.copytree(run, folder / "copy")


def test_folders_that_are_no_run(run, tmp_path):
    other = copied(run, tmp_path)
    resolved = json.loads((run / "config.json").read_text())
    file = other / "config.json"
    changed = resolved | {"model": resolved["model"] | {"adaptive": True}}
    file.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="no checkpoint that can be used"):
        networks.load(str(other))
    for text in ("{", "[]", "{}", json.dumps(resolved | {"beauty": 1})):
        file.write_text(text)
        with pytest.raises(UserError, match="config.json is damaged or of another version"):
            networks.load(str(other))
    with pytest.raises(UserError, match="it has no config.json"):
        networks.load(str(run / "checkpoints"))
    for checkpoint in (other / "checkpoints").iterdir():
        checkpoint.rename(tmp_path / checkpoint.name)
    file.write_text(json.dumps(resolved))
    with pytest.raises(UserError, match="no checkpoint that can be used"):
        networks.load(str(other))


@pytest.mark.parametrize(
    "flags, reasons",
    [
        (("--network", "lenet6"), ["lenet6: no such network", "run folder"]),
        (("--network", "tests"), ["tests: no folder of a run", "config.json"]),
        (("--format", "tflite"), ["tflite", "onnx", "stablehlo", "safetensors", "torch"]),
    ],
)
def test_wrong_flags(program, flags, reasons):
    refused(program("export", *flags), *reasons)


def test_complaints_come_before_jax(program, tmp_path):
    for flags in (("--help",), ("--network", "lenet6"), ("--format", "tflite")):
        done = program("export", *flags, PYTHONPROFILEIMPORTTIME="1")
        assert "lenet_jax.errors" in done.stderr and "jaxlib" not in done.stderr


def test_folders_that_cannot_be_written(program, run, tmp_path):
    (tmp_path / "file").write_text("")
    flags = ("--network", run, "--format", "torch", "--out")
    refused(program("export", *flags, tmp_path / "file"), "--out", "File exists")
    refused(program("export", *flags, tmp_path / "file" / "sub"), "--out", "Not a directory")
    full = program(
        "export", *flags, tmp_path / "full", file_limit_kib=100, JAX_ENABLE_COMPILATION_CACHE="0"
    )
    refused(full, "File too large")
    assert list((tmp_path / "full").iterdir()) == []
