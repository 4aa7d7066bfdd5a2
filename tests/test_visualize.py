"""Looking inside a network: every number drawn is compared with one worked out another way."""

import json
import shutil
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import ROOT, apply
from flax import linen as nn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from lenet_jax import visualize
from lenet_jax.data import digits as embedded
from lenet_jax.errors import UserError
from lenet_jax.inspection import activations, deconvnet, drawings, features
from lenet_jax.inspection.occlusion import covered
from lenet_jax.inspection.saliency import gradient
from lenet_jax.layers.codes import codes
from lenet_jax.layers.inputs import normalize
from lenet_jax.models.lenet import LeNet5
from lenet_jax.recognition import networks
from lenet_jax.recognition.predictor import predictor

pytestmark = pytest.mark.xdist_group("visualize")  # one process trains the run for all of these
CLASSIC = ("--config", ROOT / "experiments" / "classic.py", "--data.limit", 100)


class Other(nn.Module):
    """Another network altogether: padded, rectified, max-pooled, its layers' names out of order."""

    frame: ClassVar[str] = "32x32"

    @nn.compact
    def __call__(self, images):
        z = nn.relu(nn.Conv(3, (5, 5), name="z")(images[..., None]))
        a = nn.max_pool(z, (2, 2), (2, 2))
        scores = nn.Dense(4, name="output")(a.reshape(len(images), -1))
        return scores, {name: jnp.moveaxis(maps, -1, 1) for name, maps in (("z", z), ("a", a))}


@pytest.fixture(scope="module")
def run(program, tmp_path_factory):
    """A real run of three epochs with all its checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "classic"
    done = program("train", *CLASSIC, "--epochs", 3, "--keep", 5, "--workdir", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trained(run):
    last = networks.load(str(run))
    return last.module, last.params


@pytest.fixture(scope="module")
def other():
    module = Other()
    variables: Any = module.init(jax.random.key(1), jnp.zeros((1, 32, 32)))
    return module, variables["params"]


@pytest.fixture(scope="module")
def images():
    return embedded.load()["test_images"]


def close(ours, theirs, relative=1e-5):
    """To so much of the largest value."""
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


def data_of(ax):
    """What an axes shows, NaN where it shows nothing."""
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def files_of(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_what_the_units_of_lenet5_see(trained):
    found = activations.receptive_fields(*trained)
    assert list(found) == ["c1", "s2", "c3", "s4", "c5", "f6"]
    # size of the field and step from unit to unit, from the layers' windows by hand
    by_hand = {"c1": (5, 1), "s2": (6, 2), "c3": (14, 2), "s4": (16, 4), "c5": (32, 0)}
    for name, (size, step) in by_hand.items():
        for ends in found[name]:
            first = step * np.arange(len(ends))
            np.testing.assert_array_equal(ends, np.stack([first, first + size], axis=1))


def test_what_the_units_of_a_padded_network_see(other):
    found = activations.receptive_fields(*other)
    assert list(found) == ["z", "a"]
    for ends in found["z"]:
        middle = np.arange(32)
        by_hand = np.stack([np.maximum(middle - 2, 0), np.minimum(middle + 3, 32)], axis=1)
        np.testing.assert_array_equal(ends, by_hand)
    for ends in found["a"]:
        middle = 2 * np.arange(16)
        by_hand = np.stack([np.maximum(middle - 2, 0), np.minimum(middle + 4, 32)], axis=1)
        np.testing.assert_array_equal(ends, by_hand)


def test_the_strongest_images_are_those_that_sorting_everything_finds(trained, images):
    module, params = trained
    found = activations.strongest(module, params, images)
    _, every = jax.jit(partial(apply, module))(params, normalize(jnp.asarray(images)))
    assert found.keys() == every.keys()
    for name, best in found.items():
        states = np.asarray(every[name], np.float64)
        largest = states.max(axis=(2, 3))
        assert best.images.shape == (states.shape[1], 9)
        for number in range(states.shape[1]):
            order = np.argsort(-largest[:, number], kind="stable")[:9]
            close(best.states[number], largest[order, number])
            apart = np.abs(np.diff(largest[np.argsort(-largest[:, number])[:10], number])) > 1e-5
            sure = np.r_[True, apart[:-1]] & apart  # not where rounding may turn two about
            np.testing.assert_array_equal(best.images[number][sure], order[sure])
            there = best.images[number], number, best.rows[number], best.columns[number]
            close(states[there], best.states[number])
            assert len(set(best.images[number])) == 9


def test_fewer_images_than_nine(other, images):
    module, params = other
    found = activations.strongest(module, params, images[:4])
    assert found["z"].images.shape == (3, 4)
    assert (
        features.top_nine(module, params, images[:4]).axes[0].get_title("left").startswith("Z: 3")
    )


def test_occlusion_of_images_of_another_shape():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(2, use_bias=False)(images.reshape(len(images), -1))

    image = np.random.default_rng(0).integers(0, 255, (4, 7), np.uint8)
    module: Any = Linear()
    params: Any = module.init(jax.random.key(0), jnp.zeros((1, 4, 7)))["params"]
    kernel = np.float64(params["Dense_0"]["kernel"]).reshape(4, 7, 2)
    found, _ = covered(module, params, image, size=3)
    for row, column in np.ndindex(4, 7):
        left = image / 255.0
        left[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 0
        close(found[row, column], np.einsum("hw,hwc->c", left, kernel))


def test_colours_are_covered_by_grey_on_every_other_pixel():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(2, use_bias=False)(images.reshape(len(images), -1))

    image = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    module: Any = Linear()
    params: Any = module.init(jax.random.key(0), jnp.zeros((1, 6, 9, 3)))["params"]
    kernel = np.asarray(params["Dense_0"]["kernel"], np.float64).reshape(6, 9, 3, 2)
    found, _ = covered(module, params, image, size=3, step=2)
    assert found.shape == (3, 4, 2)
    for row, column in np.ndindex(3, 4):
        left = image / 255.0
        left[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] = 128 / 255
        close(found[row, column], np.einsum("hwd,hwdc->c", left, kernel))


def test_occlusion_is_what_covering_by_hand_gives(trained, images):
    module, params = trained
    image = images[3]
    by_hand = []
    for row in range(28):
        for column in range(28):
            pixels = image.astype(np.float64)
            pixels[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 0
            by_hand.append(np.pad(1.275 * pixels / 255 - 0.1, 2, constant_values=-0.1))
    inputs = np.array(by_hand, np.float32)
    scores = jax.jit(partial(apply, module))(params, inputs)[0].reshape(28, 28, 10)
    ours, totals = covered(module, params, image)
    close(ours, scores)
    c3 = jax.jit(partial(apply, module))(params, inputs)[1]["c3"].reshape(28, 28, 16, 10, 10)
    close(totals["c3"], c3.sum(axis=(3, 4)))

    figure = drawings.occlusion(module, params, image)
    states = np.asarray(apply(module, params, normalize(jnp.asarray(image[None])))[1]["c3"])
    unit: Any = np.unravel_index(states.argmax(), states.shape)
    assert figure.axes[3].get_title() == f"the sum of map {unit[1]} of C3, the strongest"
    close(data_of(figure.axes[3]), c3[:, :, unit[1]].sum(axis=(2, 3)))
    kept = np.arange(states.size).reshape(states.shape) == states.argmax()
    down = np.asarray(deconvnet.projections(module, params, image[None], "c3", kept))[0]
    close(data_of(figure.axes[4]), 0.5 + down / (2 * np.abs(down).max()))
    before = apply(module, params, normalize(jnp.asarray(image[None])))[0][0]
    prediction = int(before.argmax())
    fall = before[prediction] - scores[..., prediction]
    close(data_of(figure.axes[1]), fall, 1e-4)
    predictions = np.asarray(scores.argmax(axis=2))
    drawn = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in figure.axes[2].texts}
    assert drawn == {
        (row, column): str(predictions[row, column])
        for row, column in np.argwhere(predictions != prediction)
    }
    assert len(drawn) > 0


def test_saliency_is_the_slope_in_float64(trained, images):
    module, params = trained
    image = images[3]
    ours = np.asarray(gradient(module, params, image))
    start = np.asarray(normalize(jnp.asarray(image[None])))
    prediction = int(apply(module, params, start)[0][0].argmax())
    step = 1e-4
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        moved = start.astype(np.float64) + step * np.eye(1024).reshape(1024, 32, 32)
        back = 2 * start.astype(np.float64) - moved
        up, down = (
            jax.jit(partial(apply, module))(exact, jnp.asarray(x))[0][:, prediction]
            for x in (moved, back)
        )
        assert up.dtype == jnp.float64
        slopes = np.asarray(up - down).reshape(32, 32) / (2 * step)
    assert np.abs(slopes).max() > 0.1
    close(ours, slopes, 1e-4)
    figure = drawings.saliency(module, params, image)
    close(data_of(figure.axes[1]), slopes, 1e-4)
    close(data_of(figure.axes[2]), np.abs(slopes), 1e-4)


def test_the_kernels_drawn_are_those_of_c1(trained):
    module, params = trained
    axes = drawings.kernels(module, params).axes
    for number in range(6):
        kernel = np.asarray(params["c1"]["kernel"])[number]
        np.testing.assert_array_equal(data_of(axes[number]).ravel(), kernel)
        assert axes[number].get_title() == f"map {number}"


def test_the_table_drawn_is_table_1(trained):
    module, params = trained
    shown = data_of(drawings.table(module, params).axes[0])
    kernels = np.asarray(params["c3"]["kernel"]).reshape(16, 6, 5, 5)
    for row in range(6):
        for column in range(16):
            kernel = shown[6 * row : 6 * row + 5, 6 * column : 6 * column + 5]
            if reference.TABLE_I[row][column] == "X":
                np.testing.assert_array_equal(kernel, kernels[column, row])
            else:
                assert np.isnan(kernel).all()
    full = LeNet5(table="full")
    assert "96 kernels" in drawings.table(full, params).get_suptitle()


def test_the_codes_drawn_are_the_bitmaps_with_their_penalties(trained, images):
    module, params = trained
    figure = drawings.codes(module, params, images[3], "of uci-digits")
    f6 = apply(module, params, normalize(jnp.asarray(images[3:4])))[1]["f6"].ravel()
    np.testing.assert_allclose(data_of(figure.axes[1]).ravel(), f6, rtol=1e-5, atol=1e-5)
    penalties = []
    for label, ax in enumerate(figure.axes[2:]):
        code = codes()[label]
        np.testing.assert_array_equal(data_of(ax), code.reshape(12, 7))
        penalties.append(float(((np.asarray(f6, np.float64) - code) ** 2).sum()))
        word, number = ax.get_xlabel().split()
        assert word == "penalty" and float(number) == pytest.approx(penalties[-1], abs=0.051)
    bold = [ax.get_title() for ax in figure.axes[2:] if ax.title.get_fontweight() == "bold"]
    assert bold == [f"code of {np.argmin(penalties)}"]
    assert f"reads a {np.argmin(penalties)}" in figure.get_suptitle()
    assert figure.get_supxlabel() == "of uci-digits"
    with pytest.raises(UserError, match="'linear'.*only 'rbf' has codes"):
        drawings.codes(LeNet5(head="linear"), params, images[3])


def test_adaptive_codes_are_drawn_as_they_have_become(trained, images):
    params = trained[1] | {"output": {"codes": 0.5 * codes()}}
    figure = drawings.codes(LeNet5(adaptive=True), params, images[3])
    np.testing.assert_array_equal(data_of(figure.axes[11]).ravel(), 0.5 * codes()[9])


def test_every_map_is_drawn(trained, images):
    module, params = trained
    axes = drawings.maps(module, params, images[3]).axes
    assert [ax.get_title() for ax in axes] == [
        *("input", "C1", "S2", "C3", "S4", "C5", "F6", "scores")
    ]
    scores, states = apply(module, params, normalize(jnp.asarray(images[3:4])))
    # columns, how many pixels a unit is wide, and the gap to the next map
    layout = {"c1": (2, 1, 2), "s2": (2, 2, 2), "c3": (4, 2, 1), "s4": (4, 4, 1)}
    layout |= {"c5": (8, 16, 1), "f6": (7, 16, 1)}
    for ax, (name, (columns, pixels, gap)) in zip(axes[1:-1], layout.items(), strict=True):
        maps, shown = np.asarray(states[name][0]), data_of(ax)
        pitch = pixels * maps.shape[1] + gap
        seen = np.zeros(shown.shape, bool)
        for number, states_of_map in enumerate(maps):
            row, column = divmod(number, columns)
            top, left, side = row * pitch, column * pitch, pitch - gap
            at = np.s_[top : top + side, left : left + side]
            drawn, size = shown[at][::pixels, ::pixels], np.abs(maps).max()  # of the layer
            np.testing.assert_allclose(drawn, states_of_map, rtol=0, atol=1e-5 * size)
            seen[at] = True
        np.testing.assert_array_equal(seen, ~np.isnan(shown))
    close(data_of(axes[-1])[:, 0], scores[0])


def test_the_top_nine_drawn_are_what_the_strongest_units_saw(trained, images):
    module, params = trained
    axes = features.top_nine(module, params, images).axes
    best = activations.strongest(module, params, images)["c3"]
    inputs = np.pad(images / 255, ((0, 0), (2, 2), (2, 2)))
    assert axes[2].get_title("left") == "C3: 16 maps, a unit sees 14x14 pixels"
    shown = data_of(axes[2])  # a gap of 1 between fields, of 3 between maps
    for number in range(16):
        for place in range(9):
            top, left = 15 * (place // 3), (44 + 3) * number + 15 * (place % 3)
            row, column = 2 * best.rows[number, place], 2 * best.columns[number, place]
            image = inputs[best.images[number, place]]
            np.testing.assert_allclose(
                shown[top : top + 14, left : left + 14],
                image[row : row + 14, column : column + 14],
                **{"rtol": 0, "atol": 1e-6},
            )


def test_another_network_can_be_drawn(other, images, tmp_path):
    module, params = other
    history = [networks.TrainedNetwork(module, params, {}, when) for when in ("epoch 1", "epoch 2")]
    of_one = drawings.maps, drawings.occlusion, drawings.saliency
    drawn = [
        *(draw(module, params, images[3]) for draw in of_one),
        features.top_nine(module, params, images),
        *drawings.training(history, images[3]),
    ]
    for number, figure in enumerate(drawn):
        figure.savefig(tmp_path / f"{number}.png")
        assert np.asarray(Image.open(tmp_path / f"{number}.png").convert("L")).std() > 10
    assert "After epoch 2: Other reads a" in drawn[-1].get_suptitle()


def test_the_frames_of_a_run_have_the_same_greys(run, images):
    history = networks.history(str(run))
    assert [n.when for n in history] == ["epoch 1", "epoch 2", "epoch 3"]
    frames = list(drawings.training(history, images[3]))
    every = [
        apply(n.module, n.params, normalize(jnp.asarray(images[3:4])))[1]["c1"] for n in history
    ]
    for frame, states in zip(frames, every, strict=True):
        shown = frame.axes[1].images[0]
        assert shown.get_clim() == pytest.approx((np.min(every), np.max(every)), rel=1e-5)
        close(data_of(frame.axes[1])[:28, :28], states[0, 0])


@pytest.mark.parametrize("seeds", [(), (5, 3)])
def test_a_runs_last_network_errors_what_the_run_says(run, program, tmp_path, images, seeds):
    if seeds:
        run = tmp_path / "seeds"
        flags = ("--epochs", 1, "--seeds", *seeds, "--workdir", run)
        assert program("train", *CLASSIC, *flags).returncode == 0
    last = networks.load(str(run))
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    predictions = predictor(last.module, last.params)(images).argmax(axis=1)
    errors = int((predictions != embedded.load()["test_labels"]).sum())
    assert errors == np.ravel(row["test_errors"])[0]
    assert last.when == ("epoch 1 of seed 5" if seeds else "epoch 3")


def is_a_picture(path, size=None):
    with Image.open(path) as picture:
        assert size is None or picture.size[: len(size)] == size
        return np.asarray(picture.convert("L")).std() > 10


def frames_of(path):
    with Image.open(path) as gif:
        return [np.array(frame.convert("L"), int) for frame in ImageSequence.Iterator(gif)]


@pytest.mark.parametrize("colour", [(200, 40, 10), (90, 90, 90)])
def test_a_gif_has_the_colours_of_its_figures(tmp_path, colour):
    figure = Figure((2, 2), dpi=20, facecolor=(colour[0] / 255, colour[1] / 255, colour[2] / 255))
    FigureCanvasAgg(figure)
    drawings.save_gif([figure, figure], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        for frame in ImageSequence.Iterator(gif):
            shown = np.array(frame.convert("RGB"), int)
            np.testing.assert_allclose(shown, np.broadcast_to(colour, shown.shape), atol=4)


def test_all_topics_of_a_run(program, run, tmp_path):
    before = files_of(run)
    done = program("visualize", "--network", run, "--out", tmp_path / "new" / "pictures")
    assert done.returncode == 0, done.stderr
    assert files_of(run) == before
    assert "no MNIST" in done.stderr and "uci-digits" in done.stderr
    assert "epoch 1, epoch 2, epoch 3" in done.stderr
    sizes = {
        "kernels": (1200, 312),
        "table": (1200, 552),
        "codes": (1200, 624),
        "maps": (1680,),
        "top-nine": (1680,),
        "deconvnet": (1680,),
        "occlusion": (2000, 528),
        "saliency": (1200, 504),
        "development": (1680,),
    }
    out = tmp_path / "new" / "pictures"
    written = [*(f"{topic}.png" for topic in sizes), "training.gif"]
    assert done.stdout.splitlines() == [str(out / name) for name in written]
    assert sorted(p.name for p in out.iterdir()) == sorted(written)
    for topic, size in sizes.items():
        assert is_a_picture(out / f"{topic}.png", size)
    frames = frames_of(out / "training.gif")
    assert len(frames) == len(list((run / "checkpoints").iterdir())) == 3
    assert all(frame.std() > 10 for frame in frames)
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()


COLOURS = """
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lenet_jax.experiment import Adam, Arrays, CrossEntropy, Experiment
from lenet_jax.layers.network import Network


class Colours(Network):
    frame: ClassVar[Any] = None
    activation: Any = "relu"

    @nn.compact
    def __call__(self, images):
        x = self.activate(nn.Conv(13, (3, 3), strides=2, name="c1")(images))
        scores = nn.Dense(self.classes, name="output")(x.reshape(len(x), -1))
        return scores, {"c1": jnp.moveaxis(x, -1, 1)}


def get_config():
    rng = np.random.default_rng(0)
    some = rng.integers(0, 256, (24, 16, 20, 3), np.uint8), np.arange(24) % 5
    data = Arrays("noise", classes=5, train=some, test=some)
    return Experiment("colours", Colours(), CrossEntropy(), Adam(), data=data, epochs=1)
"""


def test_a_network_for_colours_is_drawn_in_colours(program, tmp_path):
    (tmp_path / "colours.py").write_text(COLOURS)
    run, out = tmp_path / "run", tmp_path / "out"
    done = program("train", "--config", tmp_path / "colours.py", "--workdir", run)
    assert done.returncode == 0, done.stderr
    done = program("visualize", "--network", run, "--out", out)
    assert done.returncode == 0, done.stderr
    topics = {"kernels", "maps", "top-nine", "deconvnet", "occlusion", "saliency", "development"}
    assert {p.stem for p in out.iterdir()} == topics | {"training"}
    for topic in topics - {"saliency", "development"}:
        pixels = np.asarray(Image.open(out / f"{topic}.png").convert("RGB"), int)
        assert (np.ptp(pixels, axis=2) > 60).mean() > 0.005  # more than the ground has


def test_kernels_drawn_in_colours_are_those_of_the_network():
    class One(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = nn.Conv(2, (3, 5), name="c1")(images)
            return x.sum(axis=(1, 2)), {"c1": jnp.moveaxis(x, -1, 1)}

    kernel = np.random.default_rng(0).normal(size=(3, 5, 3, 2)).astype(np.float32)
    params = {"c1": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}
    shown = data_of(drawings.kernels(One(), params, (8, 8, 3)).axes[0])
    for number, left in ((0, 0), (1, 6)):
        by_hand = 0.5 + kernel[..., number] / (2 * np.abs(kernel).max())
        close(shown[:3, left : left + 5], by_hand)


@pytest.mark.parametrize("dense, shape", [(False, r"\[3, 5, 2, 4\]"), (True, r"\[160, 4\]")])
def test_kernels_that_are_no_pictures_are_refused(dense, shape):
    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = jnp.concatenate([images, images], axis=3)
            if dense:
                x = nn.Dense(4, name="c1")(x.reshape(len(x), 1, 1, -1))
            else:
                x = nn.Conv(4, (3, 5), name="c1")(x)
            return x.sum(axis=(1, 2)), {"c1": jnp.moveaxis(x, -1, 1)}

    module: Any = Doubled()
    params: Any = module.init(jax.random.key(0), jnp.zeros((1, 8, 10, 1)))["params"]
    with pytest.raises(UserError, match=f"Doubled's first layer are {shape}, no pictures"):
        drawings.kernels(module, params, (8, 10))


def test_saliency_of_colours_is_the_largest_of_the_three():
    class One(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(3)(images.reshape(len(images), -1))

    module: Any = One()
    params: Any = module.init(jax.random.key(0), jnp.zeros((1, 4, 5, 3)))["params"]
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    kernel = np.asarray(params["Dense_0"]["kernel"], np.float64)
    winner = int((image.ravel() / 255 @ kernel).argmax())
    axes = drawings.saliency(module, params, image).axes
    close(data_of(axes[0]), image / 255)
    close(data_of(axes[1]), np.abs(kernel[:, winner].reshape(4, 5, 3)).max(axis=2))


def test_a_run_with_one_good_checkpoint_says_so(program, run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    first, second, _ = sorted((copy / "checkpoints").iterdir(), key=lambda p: int(p.name))
    shutil.rmtree(first)
    file = max((second / "state").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    being_written = copy / "checkpoints" / "400.orbax-checkpoint-tmp"  # by a run that goes on there
    being_written.mkdir()
    (being_written / "part").write_text("")
    before = files_of(copy)
    done = program("visualize", "training", "--network", copy, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"checkpoint {second.name} is left out" in done.stderr
    assert "only one checkpoint" in done.stderr and "--keep 20" in done.stderr
    assert len(frames_of(tmp_path / "out" / "training.gif")) == 1
    assert files_of(copy) == before
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="it has no checkpoints"):
        networks.load(str(copy))


def test_a_users_own_picture(program, images, tmp_path):
    page = np.full((300, 600), 255, np.uint8)
    for at, image in enumerate(images[[3, 4]]):
        page[60:228, 60 + 240 * at : 228 + 240 * at] -= np.kron(image, np.ones((6, 6), np.uint8))
    Image.fromarray(page).save(tmp_path / "two.png")
    done = program("visualize", "maps", "--picture", tmp_path / "two.png", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "two.png: 2 digits, the first is drawn" in done.stderr and "MNIST" not in done.stderr
    assert is_a_picture(tmp_path / "maps.png")


@pytest.fixture(scope="module")
def no_jax(tmp_path_factory):
    """PYTHONPATH for a program that fails where it imports one of the slow packages."""
    folder = tmp_path_factory.mktemp("none")
    for name in ("jax", "flax", "matplotlib", "orbax"):
        (folder / f"{name}.py").write_text("raise SystemExit(f'{__name__} was imported')")
    return {"PYTHONPATH": str(folder)}


def test_help_comes_at_once(program, no_jax):
    done = program("visualize", "--help", **no_jax)
    assert done.returncode == 0, done.stderr
    assert all(topic in done.stdout for topic in visualize.TOPICS)
    assert "visualize training development --network runs/classic" in done.stdout


@pytest.mark.parametrize(
    "flags, said",
    [
        (["holes"], "no topic 'holes'. There are: kernels, table,"),
        (["--network", "lenet9"], "lenet9: no such network, and no folder. Give a pretrained"),
        (["training"], "needs the folder of a run: --network runs/classic"),
        (["--network", "{tmp}"], "no folder of a run, it has no config.json"),
        (["--network", "{tmp}/nowhere"], "nowhere: no such network, and no folder"),
        (
            ["--network", "{tmp}/vgg"],
            "of another version (nothing here is called 'lenet_jax.models.vgg:VGG')",
        ),
        (["--network", "{tmp}/damaged"], "config.json is damaged or of another version (Expecting"),
        (["--network", "{run}", "--picture", "{tmp}/nowhere.png"], "nowhere.png: No such file"),
        (["--network", "{run}", "--picture", "{tmp}/text.png"], "text.png is not a picture"),
        (["--network", "{run}", "--picture", "{tmp}/blank.png"], "blank.png: no digit found"),
        (["development"], "needs the folder of a run: --network runs/classic"),
        (
            ["--network", "{tmp}/colour", "--picture", "{tmp}/blank.png"],
            "takes images of 32x32x3, and --picture finds digits, which are grey and 28x28. Leave",
        ),
        (
            ["--network", "{tmp}/five"],
            "takes images of 32x32x5, and what is drawn are grey ones and those of three colours",
        ),
        (
            ["--network", "{run}", "--out", "{tmp}/text.png/out"],
            "out: Not a directory. Give a folder",
        ),
    ],
)
def test_bad_input_is_told_in_one_line_before_jax(program, no_jax, run, tmp_path, flags, said):
    written = json.loads((run / "config.json").read_text())
    for name, content in (
        ("vgg", json.dumps(written | {"model": {"is": "lenet_jax.models.vgg:VGG"}})),
        ("damaged", "{"),
        ("colour", json.dumps(written | {"dataset_shape": [32, 32, 3]})),
        ("five", json.dumps(written | {"dataset_shape": [32, 32, 5]})),
    ):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(content)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (80, 80), 255).save(tmp_path / "blank.png")
    given = [flag.format(tmp=tmp_path, run=run) for flag in flags]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    done = program("visualize", *given, **no_jax)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UserError, match="--out .*: Permission denied. Give a folder"):
        visualize.main(["--network", str(run), "--out", str(tmp_path)])
