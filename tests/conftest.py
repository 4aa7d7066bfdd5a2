"""Four virtual CPU devices, and no shape that fits by accident."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lenet_jax.data import dataset
from lenet_jax.data import digits as embedded

# MNIST is never downloaded here, nor in the programs that tests start.
os.environ["LENET_JAX_OFFLINE"] = "1"

# Most of the tests' time is compilation. The programs that they start compile as users' do.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Programs that several tests compile, in a folder that the workers of pytest-xdist share.
COMPILED = os.environ.setdefault("LENET_JAX_TESTS", tempfile.mkdtemp(prefix="lenet_jax_tests_"))
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parents[1]

# The corners of a 3 on 280 x 280 pixels.
THREE = (
    *((90, 70), (150, 50), (190, 80), (170, 125), (130, 140)),
    *((175, 150), (195, 195), (150, 230), (90, 215)),
)


def apply(module, params: Any, *inputs: Any) -> Any:
    """What a network or a layer makes of its inputs; flax's own type for it says too little."""
    return module.apply({"params": params}, *inputs)


def pytest_sessionfinish(session):
    made_here = "lenet_jax_tests_" in COMPILED  # one that the environment named is kept
    if made_here and not hasattr(session.config, "workerinput"):
        shutil.rmtree(COMPILED, ignore_errors=True)


@pytest.fixture(scope="session")
def digits():
    """The embedded set: uint8 images [1797, 28, 28] and labels [1797]."""
    arrays = embedded.load()
    return (
        np.concatenate([arrays["train_images"], arrays["test_images"]]),
        np.concatenate([arrays["train_labels"], arrays["test_labels"]]).astype(np.int32),
    )


@pytest.fixture(scope="session")
def real_mnist():
    """The folder of the four original files that LENET_JAX_MNIST names."""
    folder = os.environ.get("LENET_JAX_MNIST")
    if not folder:
        pytest.skip("LENET_JAX_MNIST names no folder with the original MNIST files")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def prepared_mnist(real_mnist, tmp_path_factory):
    """A data_dir in which TFDS has MNIST, beside a copy that someone made with TensorFlow."""
    folder = tmp_path_factory.mktemp("tfds")
    theirs = folder / "mnist" / "3.0.1"
    theirs.mkdir(parents=True)
    (theirs / "dataset_info.json").write_text('{"name": "mnist"}')
    said = []
    dataset.load(folder, manual_dir=real_mnist, log=said.append)
    assert "leaving it alone" in said[0]
    assert [p.name for p in theirs.iterdir()] == ["dataset_info.json"]
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """That of a user far from any MNIST."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LENET_JAX_MNIST", "XLA_FLAGS")}
    environment |= {"TFDS_DATA_DIR": str(tmp_path_factory.mktemp("none")), "COLUMNS": "200"}
    return environment | {"JAX_COMPILATION_CACHE_DIR": COMPILED}


# For each line that asks for a program and its flags: its exit code and what it printed, and
# whether jax has been imported.
ANSWER = """
import contextlib, importlib, io, json, sys
from lenet_jax import commandline
for line in sys.stdin:
    verb, *sys.argv[1:] = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            try:
                commandline.run(importlib.import_module(f"lenet_jax.{verb}").main)
            except SystemExit as end:
                code = end.code or 0
    answer = code, out.getvalue(), err.getvalue(), "jax" in sys.modules
    print(json.dumps(answer), file=sys.__stdout__, flush=True)
"""


@pytest.fixture(scope="session")
def before_jax(environment):
    """Runs programs that end before they use jax, as `program` does, but in two processes.

    One is for programs that read a page: a page's networks bring jax. The others do without it.
    """
    command = [sys.executable, "-c", ANSWER]
    settings: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        of_pages, others = (
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=environment, **settings))
            for _ in range(2)
        )

        def run(verb: str, *flags: object):
            process = of_pages if verb in ("train", "summary", "reproduce") else others
            assert process.stdin and process.stdout
            print(json.dumps([verb, *map(str, flags)]), file=process.stdin, flush=True)
            code, out, err, jax_imported = json.loads(process.stdout.readline())
            assert process is of_pages or not jax_imported
            return subprocess.CompletedProcess(verb, code, out, err)

        yield run
        for process in (of_pages, others):
            process.communicate()


@pytest.fixture(scope="session")
def program(environment):
    """Runs a program of the package as a user would, far from any MNIST."""

    def run(
        verb: str,
        *flags: object,
        start: bool = False,
        file_limit_kib: int = 0,
        stdin: Path | None = None,
        **more: str,
    ):
        command = [sys.executable, "-m", f"lenet_jax.{verb}", *map(str, flags)]
        if file_limit_kib:  # what writes more to a file than this finds no room
            command = ["bash", "-c", f'ulimit -f {file_limit_kib}; exec "$@"', "-", *command]
        settings: dict[str, Any] = dict(
            cwd=ROOT, env=environment | more, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if start:
            return subprocess.Popen(command, **settings)
        if stdin:
            with stdin.open("rb") as file:
                return subprocess.run(command, timeout=600, stdin=file, **settings)
        return subprocess.run(command, timeout=600, **settings)

    return run


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium to open the page with: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright to open the page with: pip install playwright"
    )
    playwright.expect.set_options(timeout=30_000)  # as long as the page waits for its server
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def draw(page, strokes):
    frame = page.locator("#paper").bounding_box()
    places = [(frame["x"] + x / 280 * frame["width"], frame["y"] + y / 280 * frame["height"])
              for x, y in strokes]  # fmt: skip
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)


@pytest.fixture
def host(monkeypatch):
    """A server that plays a host of data, or a proxy: its files by path, and what it was asked."""

    class Host(BaseHTTPRequestHandler):
        url = ""
        files: dict[str, bytes] = {}
        asked: list[str] = []

        def answer(self):
            self.asked.append(f"{self.command} {self.path}")
            content = self.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_GET = do_HEAD = do_CONNECT = answer

        def log_message(self, format, *args):
            pass

    for name in ("HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "HTTPS_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, "")
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        Host.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Host
        server.shutdown()


@contextmanager
def watched(browser, url):
    """A page that is open at an address, the addresses that it asks, and what its console says."""
    page = browser.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    yield page, requests, complaints
    page.close()
