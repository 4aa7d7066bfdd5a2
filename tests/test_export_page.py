"""The page without a server, in the browser that it is for."""

import base64
import gzip
import io
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import THREE, apply, draw, watched
from PIL import Image, ImageDraw

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.exporting import formats
from lenet_jax.exporting import page as page_format
from lenet_jax.layers.inputs import normalize
from lenet_jax.models.lenet import LeNet1, LeNet5
from lenet_jax.recognition import decoding, networks
from lenet_jax.recognition.predictor import predictor
from lenet_jax.segmentation import ink, parts, preparation

pytestmark = pytest.mark.xdist_group("export_page")  # one browser for all of them

SIZE = 300_000  # bytes
ALL = """bytes => {
    const images = Uint8Array.from(atob(bytes), c => c.charCodeAt(0)), penalties = [], times = [];
    for (let at = 0; at < images.length; at += 784) {
        const begun = performance.now();
        penalties.push(reader.run(images.subarray(at, at + 784)).penalties);
        times.push(performance.now() - begun);
    }
    return [penalties, times];
}"""


@pytest.fixture(scope="module")
def images(digits):
    """1,000 test digits: MNIST's where they are at hand."""
    folder = os.environ.get("LENET_JAX_MNIST")
    if not folder:
        return digits[0][-1000:]
    (file,) = Path(folder).glob("t10k-images*gz")
    content = gzip.decompress(file.read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)[:1000]


@pytest.fixture(scope="module")
def file(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    done = program("export", "--format", "page", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "1,000 images" in done.stderr and "the labels are the same" in done.stdout
    assert "its weights, computed by jax" in done.stdout
    return folder / "lenet5-best.html"


@pytest.fixture
def page(browser, file):
    """The page, opened from the disk; afterwards: nothing was loaded, and the console is empty."""
    with watched(browser, file.as_uri()) as (page, requests, complaints):
        yield page
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert complaints == []


def close(found, penalties):
    """To 0.01; of penalties above ten, which no answer has, to a thousandth: 16 bits are no more.

    The least penalties, which are compared and shown, are mostly below 1.
    """
    np.testing.assert_array_equal(np.argmin(found, axis=1), penalties.argmin(axis=1))
    assert np.all(np.abs(found - penalties) <= np.maximum(0.01, 0.001 * penalties))


@pytest.mark.parametrize("name", pretrained.names())
def test_the_browser_finds_the_networks_penalties(browser, images, name, tmp_path):
    trained = networks.load(name)
    scores = predictor(trained.module, trained.params)(images)
    file = tmp_path / f"{name}.html"
    formats.export("page", file, trained, images, scores)
    assert file.stat().st_size < SIZE
    page = browser.new_page()
    page.goto(file.as_uri())
    penalties, milliseconds = page.evaluate(ALL, base64.b64encode(images.tobytes()).decode())
    page.close()
    close(penalties, -scores)
    assert np.median(milliseconds) < 5  # others may have the processor now and then


def drawn(page):
    """What the page's reader makes of its drawing, and the drawing."""
    sent, digits = page.evaluate(
        """async () => {
            const canvas = drawing(), { digits } = await reader.read(canvas);
            const plain = value => value instanceof Uint8Array ? [...value] : value;
            return [canvas.toDataURL().split(",")[1], digits.map(digit => ({
                ...digit, image: plain(digit.image), code: plain(digit.code),
                maps: Object.fromEntries(Object.entries(digit.maps).map(([n, m]) => [n, plain(m)])),
            }))];
        }"""
    )
    return base64.b64decode(sent), digits


@pytest.mark.parametrize(
    "strokes", [THREE, ((60, 60), (230, 70), (120, 240)), ((140, 20), (141, 265))], ids="371"
)
@pytest.mark.parametrize("width", [34, 6])
def test_a_drawing_is_prepared_as_python_prepares_it(page, strokes, width):
    from playwright.sync_api import expect

    page.evaluate(
        """([corners, width]) => {
            pen.lineWidth = width;
            pen.lineCap = pen.lineJoin = "round";
            pen.beginPath();
            for (const [x, y] of corners) pen.lineTo(x * side / 280, y * side / 280);
            pen.stroke();
            ask();
        }""",
        [strokes, width],
    )
    content, (digit,) = drawn(page)
    grey = decoding.read(content)
    found = parts.find(grey, ink.light_on_dark(grey))
    ((((piece,), *_),),) = [part.pieces for part in found.parts]
    box = piece.box
    prepared = preparation.prepare(found.layers[0], box)
    image = np.reshape(digit["image"], (28, 28))
    assert np.abs(image - prepared.astype(int)).max() <= 2
    left, top, right, bottom = box
    assert digit["box"] == [left, top, right - left, bottom - top]
    module, params = pretrained.load("lenet5-best")
    scores, maps = apply(module, params, normalize(jnp.asarray(image[None], jnp.uint8)))
    assert digit["label"] == scores[0].argmax()
    expect(page.locator("#labels")).to_have_text("?" if digit["rejected"] else str(digit["label"]))
    for name, state in maps.items():  # in bytes, as the server sends them
        levels = (np.asarray(state[0]) / 1.7159 + 1) * 127.5
        assert np.abs(np.ravel(digit["maps"][name]) - levels.ravel()).max() < 0.6, name


def test_a_three_is_drawn_and_shown(page):
    from playwright.sync_api import expect

    expect(page.locator("#answer")).to_contain_text("No digit found. Draw one.")
    expect(page.locator("footer")).to_contain_text("the network, lenet5-best, is in this file")
    expect(page.get_by_role("link")).to_have_count(0)
    layers = page.locator("#layers canvas")
    blank = layers.evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    draw(page, THREE)
    page.mouse.up()
    expect(page.locator("#labels")).to_have_text("3")
    expect(page.locator("#about")).to_contain_text("% confidence, runner-up")
    expect(page.locator("#penalties tr.least th")).to_have_text("3")
    shown = layers.evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    assert len(shown) == 48 and all(a != b for a, b in zip(blank, shown, strict=True))
    expect(page.locator("#reading")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#answer")).to_contain_text("No digit found. Draw one.")


def picture(*digits, ink=0, paper=255, noise=0.0):
    """A file with lines of the given corners beside each other, each on 280x280 pixels."""
    image = Image.new("L", (280 * len(digits), 280), paper)
    for at, corners in enumerate(digits):
        if not corners:
            continue
        places = [(x + 280 * at, y) for x, y in corners]
        ImageDraw.Draw(image).line(places, fill=ink, width=22, joint="curve")
    levels = np.asarray(image) + np.random.default_rng(0).normal(0, noise, (280, 280 * len(digits)))
    file = io.BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return {"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()}


@pytest.mark.parametrize("ink, paper", [(0, 255), (60, 190), (240, 30)])
def test_a_picture_of_one_digit_is_read(page, ink, paper):
    from playwright.sync_api import expect

    page.locator("#file").set_input_files(picture(THREE, ink=ink, paper=paper, noise=6))
    expect(page.locator("#labels")).to_have_text("3")


def test_what_is_not_one_digit(page):
    from playwright.sync_api import expect

    page.locator("#file").set_input_files(picture(THREE, THREE))
    expect(page.locator("#error")).to_contain_text("python -m lenet_jax.serve")
    expect(page.locator("#about")).to_have_text(" No answer.")
    page.locator("#file").set_input_files(picture(((40, 140), (240, 140), (140, 140), (140, 40),
                                                   (140, 240))))  # fmt: skip
    expect(page.locator("#labels")).to_have_text("?")
    expect(page.locator("#about")).to_contain_text("No digit By the rubbish class")
    expect(page.locator("#error")).to_be_empty()
    page.locator("#file").set_input_files(picture(()))
    expect(page.locator("#about")).to_have_text(" No digit found in this picture.")


def test_any_host_of_files_will_do_and_nothing_can_leave_the_page(browser, file, host):
    from playwright.sync_api import expect

    host.files = {"/any/where.html": file.read_bytes()}
    host.asked.clear()
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{host.url}/any/where.html")
    draw(page, THREE)
    page.mouse.up()
    expect(page.locator("#labels")).to_have_text("3")
    assert refused == []
    tries = (
        "fetch('/x').catch(() => 0)",
        "new Promise(done => { Object.assign(new Image(), { onerror: done, src: '/x' }); })",
        "new Promise(done => document.body.append(Object.assign(document.createElement('script'),"
        " { onerror: done, src: '/x' })))",
    )
    for one in tries:
        page.evaluate(f"async () => {{ await {one}; }}")
    page.close()
    assert len(refused) >= len(tries) and all("Content Security Policy" in r for r in refused)
    assert host.asked == ["GET /any/where.html"]


def test_a_damaged_page_is_noticed_by_python_and_by_the_browser(browser, file, tmp_path):
    content = file.read_text()
    weights = content.index('"c5.weight"')
    at = content.index('"values": "', weights) + 5000
    other = content[:at] + ("B" if content[at] == "A" else "A") + content[at + 1 :]
    for damaged in (other, content[: len(content) // 2], ""):
        (tmp_path / "damaged.html").write_text(damaged)
        with pytest.raises(UserError, match="damaged.html is no page of ours, or damaged"):
            page_format.read(tmp_path / "damaged.html")
    (tmp_path / "damaged.html").write_text(other)
    page = browser.new_page()
    page.goto((tmp_path / "damaged.html").as_uri())
    assert page.evaluate("typeof localReader") == "undefined"
    page.close()


def random(**fields):
    """A network that was not trained, of a loss without a rubbish class."""
    module = LeNet5(**fields)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32)))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 99))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params)
    return networks.TrainedNetwork(module, params, {"config": {"loss": {}}})


def test_other_codes_and_connections(browser, images, tmp_path):
    trained = random(table="full", adaptive=True)
    scores = predictor(trained.module, trained.params)(images)
    formats.export("page", tmp_path / "x.html", trained, images, scores)
    page = browser.new_page()
    page.goto((tmp_path / "x.html").as_uri())
    penalties, _ = page.evaluate(ALL, base64.b64encode(images.tobytes()).decode())
    close(penalties, -scores)
    draw(page, THREE)
    page.mouse.up()
    _, (digit,) = drawn(page)
    assert min(digit["penalties"]) > 20 and not digit["rejected"]  # as there is no such class
    page.close()


@pytest.mark.parametrize(
    "module, said",
    [
        (LeNet1(), "this is a LeNet1"),
        (LeNet5(head="linear"), "this is one with head linear"),
        (LeNet5(pooling="max", activation="relu"), "pooling max, activation relu"),
        (LeNet5(classes=4), "classes 4"),
    ],
    ids=str,
)
def test_other_networks_are_refused(module, said, tmp_path, images):
    trained = networks.TrainedNetwork(module, {}, {})
    with pytest.raises(UserError, match=f"a LeNet5 with head rbf.*{said}.*--format onnx"):
        formats.export("page", tmp_path / "x.html", trained, images, np.zeros((1000, 10)))
    assert list(tmp_path.iterdir()) == []


def test_another_label_is_refused(tmp_path, images):
    trained = random(adaptive=True)
    codes = np.array(trained.params["output"]["codes"])
    codes[1] = codes[0]
    codes[1, 0] += 0.01  # nearly as far from every image, and all others are farther
    codes[2:] *= 3
    trained.params["output"]["codes"] = codes
    scores = predictor(trained.module, trained.params)(images[:20])
    swapped = scores[:, [1, 0, *range(2, 10)]]
    assert np.abs(swapped - scores).max() < 9e-5 * np.abs(scores).max()  # this is allowed
    with pytest.raises(UserError, match=r"the page file gives \d+ of 20 images another label"):
        formats.export("page", tmp_path / "x.html", trained, images[:20], swapped)
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_the_servers(file):
    """But for its reader and its policy it is the same file."""
    page = file.read_text()
    served = page_format.PAGE.read_text()
    assert "v1/recognize" in served and "fetch(" in served
    for name in ("v1/recognize", "fetch(", "<!-- reader", "src=", "@import"):
        assert name not in page, name
    _, _, after = served.partition("<!-- /reader -->\n")
    assert page.endswith(after) and len(after) > 5000
    (network,) = page_format.WRITTEN.findall(page)
    assert json.loads(network)["name"] == "lenet5-best"
