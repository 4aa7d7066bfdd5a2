"""The server as its users meet it: a real process, real sockets, a real browser."""

import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from conftest import ROOT, THREE, apply, draw, watched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from benchmarks import serve as benchmark
from lenet_jax import pretrained, serve
from lenet_jax.layers.codes import codes
from lenet_jax.layers.inputs import normalize
from lenet_jax.recognition import reader
from lenet_jax.serving import app, connections, uploads
from lenet_jax.serving.batching import Batcher

pytestmark = pytest.mark.xdist_group("serve")  # one server for all of them

RECOGNIZE = "/v1/recognize"


@contextmanager
def running(program, *flags, port=0, **settings):
    """A server of its own, on a free port by default; its base address is `url`. It may not
    complain."""
    complaints: list[str] = []
    with program("serve", "--port", port, *flags, start=True, **settings) as process:
        listener = threading.Thread(target=lambda: complaints.extend(process.stderr))
        listener.start()
        try:
            line = process.stdout.readline()
            assert line.startswith("lenet5-reader is at http://127.0.0.1:"), complaints
            yield SimpleNamespace(process=process, url=line.split()[3])
        finally:
            process.kill()
            listener.join()
    assert complaints == []


@pytest.fixture(scope="module")
def server(program):
    """A server that cannot write a file: none of a client's is kept, not even for a moment."""
    settings = {"file_limit_kib": 1, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    with running(program, **settings) as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def encoded(image, kind="PNG", **settings):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        file, kind, **settings
    )
    return file.getvalue()


def three(side=64):
    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).line(THREE, fill=0, width=22, joint="curve")
    return image.resize((side, side), Image.Resampling.BOX)


def labels(response):
    assert response.status_code == 200, response.text
    return [digit["label"] for digit in response.json()["digits"]]


def unpacked(packed):
    array = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8)
    return array.reshape(packed["shape"])


# ---- the command line


def refused(done, *reasons):
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    for reason in reasons:
        assert reason in done.stderr


def test_help_and_complaints_come_before_jax():
    code = "import sys; from lenet_jax import serve; {}; sys.exit('jax' in sys.modules)"
    listens = "serve.listening('127.0.0.1', 0).close(); serve.parse([])"
    assert subprocess.run([sys.executable, "-c", code.format(listens)], cwd=ROOT).returncode == 0


def test_help(program):
    done = program("serve", "--help")
    assert done.returncode == 0
    assert "python -m lenet_jax.serve --port 8080" in done.stdout and "127.0.0.1" in done.stdout


def test_wrong_flags(program, server):
    port = server.url.rpartition(":")[2]
    refused(program("serve", "--port", port), f"--port {port}", "in use", "0 takes a free one")
    refused(program("serve", "--host", "300.1.1.1"), "--host 300.1.1.1", "127.0.0.1")
    refused(program("serve", "--host", "a" * 64 + ".b"), "no such host")
    refused(program("serve", "--port", 65536), "65536", "0 to 65535")
    refused(program("serve", "--port", 0, "--network", "x"), "error: x: no", "lenet5-best")
    done = program("serve", "--port", "many")
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "given",
    ["https://a.example/page", "https://a.example/", "a.example", "null", "file://a", "https://",
     "", "https://a.example:x", "https://me@a.example", "https://*.example", "https://a b"],
)  # fmt: skip
def test_what_is_no_origin(before_jax, given):
    done = before_jax("serve", "--allow-origin", "*", "--allow-origin", given)
    refused(done, f"--allow-origin is {given}, allowed are http", "https://example.com")


def test_origins_are_as_browsers_send_them():
    given = ["HTTPS://A.Example:443", "http://[::1]:8000", "http://localhost:443", "*"]
    flags = [part for origin in given for part in ("--allow-origin", origin)]
    assert serve.parse(flags).allow_origin == ["https://a.example", *given[1:]]
    assert serve.parse([]).allow_origin == []


# ---- the API


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_read_as_body_and_as_a_form(client, kind):
    picture = encoded(three(), kind)
    response = client.post(RECOGNIZE, content=picture)
    assert labels(response) == [3]
    form = client.post(RECOGNIZE, files={"picture": ("mine", picture)}, data={"note": "x"})
    assert form.json() == response.json()
    assert set(response.json()["digits"][0]) == {
        *("label", "score", "runner_up", "confidence", "rejected", "rubbish", "box", "penalties")
    }


def test_a_blank_page_has_no_digits(client):
    assert labels(client.post(RECOGNIZE, content=encoded(Image.new("L", (64, 64), 255)))) == []


def test_maps_are_those_of_the_network(client):
    digit = client.post(f"{RECOGNIZE}?maps=true", content=encoded(three())).json()["digits"][0]
    image = unpacked(digit["image"])
    module, params = pretrained.load("lenet5-reader")
    scores, maps = apply(module, params, normalize(jnp.asarray(image[None])))
    np.testing.assert_allclose(digit["penalties"], -scores[0], rtol=1e-4)
    assert set(digit["maps"]) == set(maps) == {"c1", "s2", "c3", "s4", "c5", "f6"}
    step = 2 * 1.7159 / 255
    for name, state in maps.items():
        told = unpacked(digit["maps"][name]).astype(float) * step - 1.7159
        np.testing.assert_allclose(told, state[0], rtol=0, atol=0.51 * step)
    np.testing.assert_array_equal(unpacked(digit["code"]) > 127, codes()[digit["label"]] > 0)


def test_only_the_first_digits_bring_maps(client):
    row = Image.new("L", (12 * 64, 64), 255)
    for at in range(12):
        row.paste(three(), (at * 64, 0))
    digits = client.post(f"{RECOGNIZE}?maps=true", content=encoded(row)).json()["digits"]
    assert ["maps" in digit for digit in digits] == [True] * 10 + [False] * 2


def bomb():
    """30,000 x 30,000 pixels in a PNG that is small and whole."""
    return encoded(Image.new("1", (30_000, 30_000)), optimize=True)


@pytest.mark.parametrize(
    "body, status, reason",
    [
        (b"", 400, "empty"),
        (b"\0" * (uploads.BODY + 1), 413, "5 MiB"),
        (b"no picture", 415, "neither a PNG nor a JPEG"),
        (encoded(three(), "GIF"), 415, "neither a PNG nor a JPEG"),
        (encoded(three(400), "JPEG")[:-900], 422, "damaged"),
        (encoded(three())[:-60], 422, "damaged"),
        (encoded(Image.new("L", (1, 1))), 422, "1 x 1 pixels"),
        (encoded(Image.new("1", (8001, 6250))), 422, "50 megapixels"),
        (bomb(), 422, "50 megapixels"),
    ],
    ids="empty large text gif jpeg-cut png-cut one-pixel 50-megapixels bomb".split(),
)
def test_what_is_refused(client, body, status, reason):
    for sent in ({"content": body}, {"content": iter([body])}, {"files": {"picture": body}}):
        response = client.post(RECOGNIZE, **sent)
        assert response.status_code == status, response.text
        assert reason in response.json()["error"]


def test_several_pictures_are_answered_in_their_order(client):
    """Each for itself: a bad one keeps none of the others from being read."""
    row = Image.new("L", (128, 64), 255)
    row.paste(three(), (0, 0))
    row.paste(three(), (64, 0))
    given = [encoded(row), b"no picture", encoded(three(), "JPEG"), encoded(three())[:-60], b""]
    files = [("any", (f"{n}.png", content)) for n, content in enumerate(given)]
    answer = client.post(RECOGNIZE, files=files)
    assert answer.status_code == 200 and set(answer.json()) == {"network", "pictures"}
    read, text, jpeg, cut, empty = answer.json()["pictures"]
    assert [digit["label"] for digit in read["digits"]] == [3, 3]
    assert read["digits"] == client.post(RECOGNIZE, content=given[0]).json()["digits"]
    assert [digit["label"] for digit in jpeg["digits"]] == [3]
    assert set(text) == set(cut) == set(empty) == {"error"}
    assert "neither a PNG nor a JPEG" in text["error"] and "damaged" in cut["error"]
    with_maps = client.post(f"{RECOGNIZE}?maps=true", files=files).json()["pictures"]
    assert "maps" in with_maps[0]["digits"][1] and "maps" in with_maps[2]["digits"][0]


def test_32_pictures_are_allowed(client):
    files = [("picture", (f"{n}", encoded(three(28)))) for n in range(33)]
    answer = client.post(RECOGNIZE, files=files[:32])
    assert len(answer.json()["pictures"]) == uploads.PICTURES == 32
    answer = client.post(RECOGNIZE, files=files)
    assert answer.status_code == 400 and "more than 32 pictures" in answer.json()["error"]
    assert "another request" in answer.json()["error"]


def test_a_picture_comes_in_json_too(client):
    picture = encoded(three())
    expected = client.post(RECOGNIZE, content=picture).json()
    text = base64.b64encode(picture).decode()
    wrapped = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    for sent in (text, wrapped, f"data:image/png;base64,{text}", f"DATA:;BASE64,{text}"):
        assert client.post(RECOGNIZE, json={"picture": sent}).json() == expected
    kind = {"Content-Type": "Application/JSON; charset=utf-8"}
    body = json.dumps({"picture": text}).encode()
    assert client.post(RECOGNIZE, content=body, headers=kind).json() == expected


@pytest.mark.parametrize(
    "body, status, reason",
    [
        (encoded(three()), 400, "the body is not JSON"),
        ("", 400, "the body is not JSON"),
        ("[" * 100_000, 400, "the body is not JSON"),
        ("[]", 400, "the JSON is no object"),
        ("null", 400, "the JSON is no object"),
        ("{}", 400, "the JSON has no keys, allowed is picture alone"),
        ('{"image": "AAAA"}', 400, "the JSON has image, allowed is picture alone"),
        ('{"picture": "AAAA", "maps": true}', 400, "the JSON has picture, maps, allowed"),
        ('{"picture": 7}', 400, "picture is 7, allowed is a string"),
        ('{"picture": ["AAAA"]}', 400, "picture is ['AAAA'], allowed is a string"),
        ('{"picture": "one.png"}', 400, "picture is 'one.png'..., no base64"),
        ('{"picture": "AAA"}', 400, "no base64"),
        ('{"picture": "\\u00e9"}', 400, "no base64"),
        ('{"picture": "data:image/png,AAA"}', 400, "no base64"),
        ('{"picture": ""}', 400, "empty"),
        ('{"picture": "AAAA"}', 415, "neither a PNG nor a JPEG"),
    ],
    ids=lambda value: f"{value!r:.24}",
)
def test_json_that_is_refused(client, body, status, reason):
    answer = client.post(RECOGNIZE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status and reason in answer.json()["error"], answer.text
    assert len(answer.json()["error"]) < 250


def test_boxes_are_in_pixels_of_the_file(client):
    """Also of a JPEG that is reduced while it is decoded."""
    page = Image.new("L", (8000, 6200), 255)
    page.paste(three(1500), (5000, 3000))
    small = page.resize((1600, 1240), Image.Resampling.BOX)
    large = client.post(RECOGNIZE, content=encoded(page, "JPEG", quality=30)).json()["digits"]
    (few,) = client.post(RECOGNIZE, content=encoded(small, "JPEG")).json()["digits"]
    (many,) = large
    assert many["label"] == few["label"] == 3
    np.testing.assert_allclose(many["box"], 5 * np.array(few["box"]), atol=60)
    assert all(isinstance(edge, int) for edge in many["box"])


def test_five_mebibytes_are_allowed(client):
    noise = np.random.default_rng(0).integers(0, 255, (1024, 5 * 1024 - 10), np.uint8)
    picture = encoded(noise, compress_level=0)
    picture += b"\0" * (uploads.BODY - len(picture))  # what comes after its end is no part of it
    assert client.post(RECOGNIZE, content=picture).status_code == 200
    form = {"picture": picture[:-1000]}  # less its headers; `server` could not put it into a file
    assert client.post(RECOGNIZE, files=form).status_code == 200


@pytest.mark.parametrize(
    "kind, body",
    [
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b"hello"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--"),
        (
            "multipart/form-data; boundary=x; charset=undefined",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        ),
    ],
)
def test_malformed_forms(client, kind, body):
    response = client.post(RECOGNIZE, content=body, headers={"Content-Type": kind})
    assert response.status_code == 400 and "multipart" in response.json()["error"]


ORIGIN = "https://a.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


def test_pages_of_other_origins_may_not_ask(client):
    preflight = client.options(RECOGNIZE, headers={"Origin": ORIGIN, **PREFLIGHT})
    assert preflight.status_code == 405
    for answer in (preflight, client.post(RECOGNIZE, content=b"x", headers={"Origin": ORIGIN})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("allowed, answered", [([ORIGIN, "http://b"], ORIGIN), (["*"], "*")])
def test_pages_of_allowed_origins_may_ask(program, allowed, answered):
    flags = [part for origin in allowed for part in ("--allow-origin", origin)]
    with running(program, *flags) as mine, httpx.Client(base_url=mine.url, timeout=60) as client:
        asking = {"Origin": ORIGIN}
        wanted = {"Access-Control-Request-Private-Network": "true", **PREFLIGHT}
        answer = client.options(RECOGNIZE, headers=asking | wanted)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == answered
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "Content-Type" in answer.headers["access-control-allow-headers"]
        assert answer.headers["access-control-allow-private-network"] == "true"
        read = client.post(RECOGNIZE, content=encoded(three()), headers=asking)
        bad = client.post(RECOGNIZE, content=b"no picture", headers=asking)
        assert labels(read) == [3] and bad.status_code == 415
        for each in (answer, read, bad):
            assert each.headers["access-control-allow-origin"] == answered
            assert each.headers["cross-origin-resource-policy"] == "cross-origin"
            assert each.headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-credentials" not in each.headers
        assert read.headers["access-control-expose-headers"] == "Retry-After"
        assert 'path="/v1/recognize",code="200"} 2' in client.get("/metrics").text
        other = client.get("/healthz", headers=asking)
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["cross-origin-resource-policy"] == "same-origin"
        stranger = {"Origin": "https://c.example"}
        answer = client.options(RECOGNIZE, headers=stranger | PREFLIGHT)
        assert (answer.status_code == 200) == (answered == "*")
        answer = client.post(RECOGNIZE, content=encoded(three()), headers=stranger)
        assert answer.headers.get("access-control-allow-origin") == (
            "*" if answered == "*" else None
        )


def test_names_and_pages_that_may_not_ask(client, program):
    """A name that was made to stand for this address, and what a page elsewhere posts."""
    for host, status in (
        ("evil.example", 403), ("evil.example:8000", 403), ("127.0.0.1.evil.example", 403),
        ("", 403), ("localhost", 200), ("LOCALHOST:1234", 200), ("[::1]:8000", 200),
    ):  # fmt: skip
        answer = client.get("/healthz", headers={"Host": host})
        assert answer.status_code == status, (host, answer.text)
        assert status == 200 or "--allow-host" in answer.json()["error"]
    asked = {"url": RECOGNIZE, "content": encoded(three())}
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        answer = client.post(headers={"Sec-Fetch-Site": site}, **asked)
        assert answer.status_code == status, (site, answer.text)
        assert status == 200 or "--allow-origin" in answer.json()["error"]
    flags = "--allow-host", "Digits.example", "--allow-origin", "https://mine.example"
    with running(program, *flags) as found, httpx.Client(base_url=found.url, timeout=30) as other:
        assert other.get("/healthz", headers={"Host": "digits.example"}).status_code == 200
        assert other.get("/healthz", headers={"Host": "evil.example"}).status_code == 403
        for origin, status in (("https://mine.example", 200), ("https://evil.example", 403)):
            headers = {"Sec-Fetch-Site": "cross-site", "Origin": origin}
            assert other.post(headers=headers, **asked).status_code == status


def until_closed(connection, send, seconds):
    """Seconds until the server closes a connection on which `send` is sent once a second."""
    began = time.monotonic()
    connection.settimeout(1)
    while time.monotonic() - began < seconds:
        try:
            if send:
                connection.sendall(send)
            if connection.recv(1024) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def test_clients_that_dawdle_are_let_go(server):
    """Silent ones, and ones that send a byte a second: at once, and after an answer."""
    address = "127.0.0.1", int(server.url.rpartition(":")[2])
    begun = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"

    def dawdle(first, send):
        with socket.create_connection(address) as connection:
            connection.sendall(first)
            if first.endswith(b"\r\n\r\n"):
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            return until_closed(connection, send, 20)

    cases = (b"", b""), (b"", b"G"), (begun, b"X"), (begun + b"\r\n", b"G")
    with ThreadPoolExecutor(len(cases)) as pool:
        waited = list(pool.map(dawdle, *zip(*cases, strict=True)))
    assert all(connections.SECONDS - 2 < seconds < connections.SECONDS + 4 for seconds in waited)


def test_what_is_too_large_is_not_read_for_ever(server):
    """A chunked body without an end; and what is no request leaves no line in the log."""
    address = "127.0.0.1", int(server.url.rpartition(":")[2])
    chunk = b"%x\r\n%s\r\n" % (2**16, bytes(2**16))
    with socket.create_connection(address) as connection:
        connection.settimeout(10)
        head = f"POST {RECOGNIZE} HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        with pytest.raises(OSError):
            while sent < 100 * 2**20:
                connection.sendall(chunk)
                sent += 2**16
    assert uploads.BODY < sent < 2 * uploads.THROWN_AWAY
    with socket.create_connection(address) as connection:
        connection.sendall(b"\x16\x03\x01 no request\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 400")


def test_other_wrong_requests(client):
    answer = client.post(f"{RECOGNIZE}/", content=encoded(three()))
    assert answer.status_code == 404  # and not sent to an address without the prefix of a proxy
    assert client.post(f"{RECOGNIZE}?maps=2", content=encoded(three())).status_code == 400
    assert client.get(RECOGNIZE).status_code == 405
    assert client.get("/nowhere").status_code == 404
    assert client.get("/../../etc/passwd").status_code == 404


quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CONTENT_TYPES = ("image/png", "multipart/form-data; boundary=x", "multipart/form-data", "text/x")
PARTS = st.sampled_from([b"--x", b"\r\n", b"--", b'Content-Disposition: form-data; name="a"'])
FORMS = st.lists(PARTS | st.just(b'; filename="b"') | st.binary(max_size=9)).map(b"".join)


@quick
@given(kind=st.sampled_from(CONTENT_TYPES), body=st.binary(max_size=200) | FORMS)
def test_no_body_makes_it_fail(client, kind, body):
    response = client.post(RECOGNIZE, content=body, headers={"Content-Type": kind})
    assert response.status_code in (400, 415, 422), response.text


@quick
@given(
    kind=st.sampled_from(["PNG", "JPEG"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    length=st.floats(0.05, 1),
)
def test_no_damage_makes_it_fail(client, kind, changes, length):
    exif = Image.Exif()
    exif[0x0112] = 6
    body = bytearray(encoded(three(32), kind, exif=exif))
    for place, value in changes:
        body[int(place * len(body))] = value
    response = client.post(RECOGNIZE, content=bytes(body[: int(length * len(body))]))
    assert response.status_code in (200, 400, 415, 422), response.text


@quick
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32), st.floats(0, 1))
def test_no_picture_makes_it_fail(client, height, width, seed, density):
    rng = np.random.default_rng(seed)
    pixels = np.where(rng.random((height, width)) < density, rng.integers(0, 255), 255)
    response = client.post(f"{RECOGNIZE}?maps=true", content=encoded(pixels.astype(np.uint8)))
    assert response.status_code in (200, 422), response.text


def test_every_answer_has_the_security_headers(client):
    answers = [client.get(path) for path in ("/", "/healthz", "/nowhere", RECOGNIZE)]
    for answer in (*answers, client.post(RECOGNIZE)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        written = answer.headers["content-security-policy"].split("; ")
        policy = dict(directive.split(" ", 1) for directive in written)
        for name in ("script-src", "style-src"):
            assert re.fullmatch(r"('sha256-[\w+/]{43}=' ?)+", policy.pop(name))
        assert policy == {
            **dict.fromkeys(
                ("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"
            ),
            "connect-src": "'self'",
            "img-src": "data:",
        }


def test_health_and_metrics(client):
    assert client.get("/healthz").json()["network"] == "lenet5-reader"

    def counted():
        lines = client.get("/metrics").text.splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    before = counted()
    client.post(RECOGNIZE, content=encoded(three()))
    client.get("/nobody-asked")
    after = counted()

    def more(name):
        return float(after[name]) - float(before.get(name, 0))

    assert more(f'lenet_jax_requests_total{{path="{RECOGNIZE}",code="200"}}') == 1
    assert more('lenet_jax_requests_total{path="other",code="404"}') == 1
    assert more(f'lenet_jax_request_seconds_bucket{{path="{RECOGNIZE}",le="+Inf"}}') == 1
    assert more(f'lenet_jax_request_seconds_count{{path="{RECOGNIZE}"}}') == 1
    assert more("lenet_jax_batches_total") == more("lenet_jax_images_total") == 1
    assert after["lenet_jax_requests_in_flight"] == "1"  # the one that asks


def referenced(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else ())
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from referenced(child)


TYPES = {"integer": int, "number": float | int, "boolean": bool, "array": list, "object": dict,
         "string": str}  # fmt: skip


def check(value, schema, schemas):
    """What the document says of a value is so: its type, its bounds, its parts."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        either = [
            schemas[s["$ref"].rpartition("/")[2]] if "$ref" in s else s for s in schema["anyOf"]
        ]
        (schema,) = (one for one in either if set(one["required"]) <= set(value))
    assert isinstance(value, TYPES[schema["type"]]), (value, schema)
    if "minimum" in schema:
        assert schema["minimum"] <= value <= schema.get("maximum", np.inf)
    if "minItems" in schema:
        assert schema["minItems"] <= len(value) <= schema["maxItems"]
    for part in value if "items" in schema else ():
        check(part, schema["items"], schemas)
    for name, part in value.items() if "properties" in schema else ():
        check(part, schema["properties"][name], schemas)
    assert set(schema.get("required", ())) <= set(value if schema["type"] == "object" else ())


def test_the_document_describes_what_is_answered(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == client.get("/healthz").json()["version"]
    assert document["servers"] == [{"url": "."}]
    for reference in referenced(document):
        schema = document
        for name in reference.removeprefix("#/").split("/"):
            schema = schema[name]
    names = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names.add(operation["operationId"])
            answer = client.request(method.upper(), path)
            response = operation["responses"][str(answer.status_code)]
            kind = answer.headers["content-type"].split(";")[0]
            if kind == "application/json":
                schema = response["content"][kind]["schema"]
                check(answer.json(), schema, document["components"]["schemas"])
            assert kind in response["content"]
            assert client.delete(path).status_code == 405  # routes are those of the document
    assert len(names) == len(document["paths"])

    documented = document["paths"][RECOGNIZE]["post"]
    for kind, body in {
        "image/png": encoded(three()),
        "image/jpeg": encoded(three(), "JPEG"),
        "application/json": json.dumps({"picture": base64.b64encode(encoded(three())).decode()}),
        "multipart/form-data; boundary=x": b"--x\r\nContent-Disposition: form-data; "
        b'name="picture"; filename="a"\r\n\r\n' + encoded(three()) + b"\r\n--x--\r\n",
    }.items():
        assert kind.partition(";")[0] in documented["requestBody"]["content"]
        assert labels(client.post(RECOGNIZE, content=body, headers={"Content-Type": kind})) == [3]
    assert len(documented["requestBody"]["content"]) == 4

    schemas = document["components"]["schemas"]
    schema = schemas["Digit"]
    answers = [
        client.post(f"{RECOGNIZE}?maps={maps}", content=encoded(three())).json()
        for maps in ("false", "true")
    ]
    several = [("picture", encoded(three())), ("picture", b"no picture")]
    answers.append(client.post(RECOGNIZE, files=several).json())
    for answer in answers:
        check(
            answer, documented["responses"]["200"]["content"]["application/json"]["schema"], schemas
        )
    plain, full = (answer["digits"][0] for answer in answers[:2])
    assert sorted(plain) == sorted(schema["required"])
    assert sorted(full) == sorted(schema["properties"])
    assert sorted(full["maps"]) == sorted(schema["properties"]["maps"]["properties"])


# ---- many at once


def test_64_clients_at_once(client, server):
    before = client.get("/metrics").text
    together = threading.Barrier(64)

    def ask(n):
        with httpx.Client(base_url=server.url, timeout=30) as mine:
            together.wait()
            return labels(mine.post(RECOGNIZE, content=encoded(three(28 + n % 8))))

    with ThreadPoolExecutor(64) as clients:
        assert list(clients.map(ask, range(64))) == [[3]] * 64

    def batches(text):
        return int(text.partition("\nlenet_jax_batches_total ")[2].split()[0])

    assert batches(client.get("/metrics").text) - batches(before) < 64


@pytest.mark.skipif(sys.platform != "linux", reason="no malloc_trim (glibc on Linux has it)")
def test_the_memory_of_large_pictures_is_given_back(client, server):
    process = psutil.Process(server.process.pid)
    large = encoded(three().resize((6300, 6300)), "JPEG", quality=50)
    assert labels(client.post(RECOGNIZE, content=large)) == [3]  # what is loaded once is
    before = process.memory_info().rss
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: client.post(RECOGNIZE, content=large), range(6)))
    assert [labels(answer) for answer in answers] == [[3]] * 6

    wait_for(lambda: process.memory_info().rss < before + 2**28)


def test_a_steady_load(server):
    host, port = server.url.removeprefix("http://").split(":")
    outcome = asyncio.run(benchmark.load(host, int(port), benchmark.digit(), 50, 3))
    assert len(outcome.seconds) == 150 and outcome.failed == []


def test_batches_bring_each_his_own():
    begun, gate, ran = threading.Event(), threading.Event(), []

    def run(images):
        begun.set()
        assert gate.wait(60)
        ran.append(len(images))
        if images.max() == 99:
            raise ValueError("ninety-nine")
        return images[:, 0, 0] * 2

    batcher = Batcher(run)
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(batcher, np.full((1, 28, 28), 0))]
        assert begun.wait(60)
        asked += [threads.submit(batcher, np.full((n % 3 + 1, 28, 28), n)) for n in range(1, 20)]
        wait_for(lambda: batcher._asked.qsize() == 19)
        gate.set()
        for n, answer in enumerate(asked):
            assert answer.result(60).tolist() == [2 * n] * (n % 3 + 1)
        assert ran == [1, 38]  # the first alone, and all who asked meanwhile
        assert (batcher.batches, batcher.images) == (2, 39)
        with pytest.raises(ValueError, match="ninety-nine"):
            batcher(np.full((1, 28, 28), 99))
        assert batcher(np.ones((1, 28, 28))) == [2]  # and goes on


def waiting(client):
    """Requests in flight, the one that asks among them."""
    return int(
        client.get("/metrics").text.partition("\nlenet_jax_requests_in_flight ")[2].split()[0]
    )


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s"
        time.sleep(0.02)


def test_a_full_queue_says_when_to_come_again(client, server):
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST {RECOGNIZE} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\nbegun"
    slow = [socket.create_connection((host, int(port))) for _ in range(app.QUEUE)]
    try:
        for connection in slow:
            connection.sendall(head.encode())
        wait_for(lambda: waiting(client) == app.QUEUE + 1)
        response = client.post(RECOGNIZE, content=encoded(three()))
        assert response.status_code == 503 and "128" in response.json()["error"]
        assert response.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
    finally:
        for connection in slow:
            connection.close()
    wait_for(lambda: waiting(client) == 1)  # who goes away leaves his place
    assert labels(client.post(RECOGNIZE, content=encoded(three()))) == [3]


def test_time_is_limited(monkeypatch):
    """A body that never ends, and a network that does not answer; then it goes on."""
    scores, card = reader.reader("lenet5-reader")
    gate = threading.Event()
    gate.set()  # until the server has tried its network

    def gated(images):
        gate.wait()
        return scores(images)

    monkeypatch.setattr(reader, "reader", lambda network: (gated, card))
    pictures = app.PictureReader("lenet5-best", app.QUEUE)
    monkeypatch.setattr(app, "PictureReader", lambda network, requests: pictures)
    hasty, patient = app.create("lenet5-best", seconds=1), app.create("lenet5-best")
    gate.clear()

    async def endless():
        yield b"\x89PNG"
        await asyncio.Event().wait()

    async def ask(asked, body):
        transport = httpx.ASGITransport(asked)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(RECOGNIZE, content=body)

    response = asyncio.run(ask(hasty, endless()))
    assert response.status_code == 408 and "1 s" in response.json()["error"]
    response = asyncio.run(ask(hasty, encoded(three())))
    gate.set()
    assert response.status_code == 503 and response.headers["retry-after"] == "1"
    assert "1 s" in response.json()["error"]
    assert labels(asyncio.run(ask(patient, encoded(three())))) == [3]


def test_a_thread_that_fails_is_seen(program):
    """Though the other programs keep still about what Orbax leaves behind."""
    code = """
import sys, threading, uvicorn
from lenet_jax import commandline, serve
from lenet_jax.serving import app

def fail(*_, **__):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

app.create, uvicorn.Server.run = lambda network, origins, hosts: network, fail
sys.argv = ["serve", "--port", "0"]
commandline.run(serve.main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "ZeroDivisionError" in done.stderr


def test_stopped_it_answers_what_it_was_asked(program):
    picture = encoded(three())
    head = f"POST {RECOGNIZE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n"
    with running(program) as mine, httpx.Client(base_url=mine.url, timeout=60) as client:
        host, port = mine.url.removeprefix("http://").split(":")
        asking = [socket.create_connection((host, int(port)), timeout=60) for _ in range(12)]
        for connection in asking:
            connection.sendall(head.encode() + picture[:-1])
        wait_for(lambda: waiting(client) == 13)
        mine.process.send_signal(signal.SIGTERM)

        def closed():
            with socket.socket() as knocking:
                return knocking.connect_ex((host, int(port))) != 0

        wait_for(closed)
        for connection in asking:
            connection.sendall(picture[-1:])
        for connection in asking:
            with connection, connection.makefile("rb") as answer:
                status, _, body = answer.read().partition(b"\r\n\r\n")
            assert status.startswith(b"HTTP/1.1 200")
            assert [digit["label"] for digit in json.loads(body)["digits"]] == [3]
        assert mine.process.wait(timeout=30) == 0


# ---- the page


@pytest.fixture
def page(browser, server):
    """The page, opened; afterwards: nothing was asked elsewhere, and the console is empty."""
    with watched(browser, server.url) as (page, requests, complaints):
        yield page
    assert len(requests) > 1
    assert {url for url in requests if not url.startswith((server.url, "data:"))} == set()
    assert complaints == []


@contextmanager
def pages_elsewhere():
    """The origins of two empty pages."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield [f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost")]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def behind_a_prefix(url):
    """The address of a proxy that hands on what comes to /digits/ without that prefix."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            prefix, digits, path = self.path.partition("/digits/")
            if prefix or not digits:
                return self.send_error(404)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = httpx.request(
                self.command, f"{url}/{path}", content=body, headers=kind, timeout=30
            )
            self.send_response(answer.status_code)
            for name in ("Content-Type", "Content-Length", "Content-Security-Policy"):
                self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}/digits/"
        finally:
            proxy.shutdown()
            thread.join()


def test_the_api_works_behind_a_path_prefix(server):
    """Its addresses are relative: a program finds it by the document that it got there."""
    with behind_a_prefix(server.url) as address, httpx.Client(timeout=30) as client:
        document = client.get(f"{address}openapi.json")
        base = document.url.join(document.json()["servers"][0]["url"])
        files = [("picture", encoded(three()))] * 2
        for path in document.json()["paths"]:
            url = f"{str(base).rstrip('/')}{path}"
            answer = client.post(url, files=files) if path == RECOGNIZE else client.get(url)
            assert answer.status_code == 200, url
            assert server.url not in answer.text and "location" not in answer.headers
            assert not re.search(r"""(href|src|action)=["']?/""", answer.text)
            if path == RECOGNIZE:
                assert [len(each["digits"]) for each in answer.json()["pictures"]] == [1, 1]


def test_a_page_of_another_origin_reads_a_digit(browser, program):
    """A browser sends the preflight and hands out the answer, to pages that are allowed alone."""
    ask = """async ([url, content]) => {
        const picture = content, headers = {"Content-Type": "application/json"};
        const body = JSON.stringify({picture});
        try {
            const answer = await fetch(url, {method: "POST", headers, body});
            return (await answer.json()).digits[0].label;
        } catch { return null; }
    }"""
    with pages_elsewhere() as (mine, theirs):
        with running(program, "--allow-origin", mine) as server:
            given = [server.url + RECOGNIZE, base64.b64encode(encoded(three())).decode()]
            for origin, label in ((mine, 3), (theirs, None)):
                page = browser.new_page()
                page.goto(origin)
                assert page.evaluate(ask, given) == label
                page.close()


def test_the_page_works_behind_a_path_prefix(browser, server):
    from playwright.sync_api import expect

    with behind_a_prefix(server.url) as address:
        page = browser.new_page()
        refused = []
        page.on("response", lambda answer: refused.append(answer.url) if not answer.ok else None)
        page.goto(address)
        draw(page, THREE)
        page.mouse.up()
        expect(page.locator("#labels")).to_have_text("3")
        page.get_by_role("link", name="the API").click()
        expect(page.locator("body")).to_contain_text('"openapi":"3.1')
        page.close()
        assert refused == []


def pixels(page, layer):
    return page.locator(f"#{layer} canvas").first.evaluate("canvas => canvas.toDataURL()")


def test_a_three_is_drawn_and_read(page):
    from playwright.sync_api import expect

    answer = page.locator("#answer")
    expect(answer).to_contain_text("No digit found")
    blank = {layer: pixels(page, layer) for layer in ("image", "c1", "s2", "c3", "s4", "c5", "f6")}
    draw(page, THREE[:5])
    expect(page.locator("#labels")).not_to_be_empty()  # while the button is down
    half = {layer: pixels(page, layer) for layer in blank}
    page.mouse.up()
    page.get_by_role("button", name="Clear").click()
    expect(answer).to_contain_text("No digit found")
    draw(page, THREE)
    page.mouse.up()
    expect(page.locator("#labels")).to_have_text("3")
    expect(page.locator("#penalties tr.least th")).to_have_text("3")
    expect(page.locator("#code")).to_contain_text("of 3")
    assert page.locator("#penalties tr").count() == 10
    assert page.locator("#layers canvas").count() == 1 + 6 + 6 + 16 + 16 + 1 + 1 + 1
    for layer, before in blank.items():
        assert len({before, half[layer], pixels(page, layer)}) == 3, layer
    page.keyboard.press("Escape")
    expect(answer).to_contain_text("No digit found")
    expect(page.locator("#penalties tr.least")).to_have_count(0)
    assert {layer: pixels(page, layer) for layer in blank} == blank


def drop(page, name, content):
    transfer = page.evaluate_handle(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def test_a_picture_is_dropped_and_read(page):
    from playwright.sync_api import expect

    row = Image.new("L", (300, 100), 255)
    row.paste(three(90), (10, 5))
    row.paste(three(90).transpose(Image.Transpose.ROTATE_180), (150, 5))
    drop(page, "row.jpg", encoded(row, "JPEG"))
    choice = page.locator("#choice button")
    expect(choice).to_have_count(2)
    expect(choice.first).to_have_text("3")
    first = pixels(page, "c1")
    choice.last.click()
    expect(choice.last).to_have_attribute("aria-pressed", "true")
    assert pixels(page, "c1") != first

    drop(page, "notes.txt", b"no picture")
    expect(page.locator("#error")).to_contain_text("notes.txt is no picture that this browser")
    expect(choice).to_have_count(2)  # what is shown is still so
    draw(page, THREE)  # and drawing begins anew
    page.mouse.up()
    expect(page.locator("#labels")).to_have_text("3")
    expect(page.locator("#error")).to_be_empty()

    page.locator("#file").set_input_files(
        {"name": "blank.png", "mimeType": "image/png", "buffer": encoded(Image.new("L", (50, 50)))}
    )
    expect(page.locator("#answer")).to_contain_text("No digit found in this picture")


def rgb(colour):
    """A colour of the style as the browser computes it."""
    red, green, blue = bytes.fromhex(colour.strip().removeprefix("#"))
    return f"rgb({red}, {green}, {blue})"


def test_what_is_no_digit_is_not_shown_as_one(page):
    from playwright.sync_api import expect

    plus = Image.new("L", (200, 200), 255)
    for line in (((100, 40), (100, 160)), ((40, 100), (160, 100))):
        ImageDraw.Draw(plus).line(line, fill=0, width=10)
    drop(page, "plus.png", encoded(plus))
    reason = page.locator("#about")
    expect(reason).to_contain_text("No digit By the rubbish class: the nearest code, that of 4")
    assert "%" not in reason.inner_text()
    expect(page.locator("#labels")).to_have_text("?")
    blue = page.evaluate("getComputedStyle(document.body).getPropertyValue('--accent')")
    for shown in ("#labels", "tr.least th"):
        expect(page.locator(shown)).not_to_have_css("color", rgb(blue))
    expect(page.locator("tr.least .bar")).not_to_have_css("background-color", rgb(blue))
    row = Image.new("L", (400, 200), 255)
    row.paste(three(160), (10, 20))
    row.paste(plus, (190, 0))
    drop(page, "row.png", encoded(row))
    choice = page.locator("#choice button")
    expect(choice).to_have_count(2)
    assert choice.all_inner_texts() == ["3", "?"]
    expect(page.locator("#about")).to_contain_text("1 of 2: 3, ")
    choice.last.click()
    expect(page.locator("#about")).to_contain_text("2 of 2: No digit")


def boxes_drawn(page):
    return page.locator("#boxes").evaluate(
        """canvas => {
            const { width, height } = canvas, empty = document.createElement("canvas");
            return canvas.toDataURL() !== Object.assign(empty, { width, height }).toDataURL();
        }"""
    )


OPACITY = """element => {
    let all = 1;
    for (; element; element = element.parentElement) all *= getComputedStyle(element).opacity;
    return all;
}"""


def expect_old(page):
    """What is shown is dimmed, and said to be of something else."""
    from playwright.sync_api import expect

    expect(page.locator("#reading")).to_be_visible()
    expect(page.locator("#reading")).to_have_text("reading …")
    assert page.locator("#reading").evaluate(OPACITY) == 1
    for shown in map(page.locator, ("#answer", "#penalties", "#layers")):
        wait_for(lambda shown=shown: shown.evaluate(OPACITY) < 0.5)


def expect_fresh(page):
    from playwright.sync_api import expect

    expect(page.locator("#reading")).to_be_hidden()
    expect(page.locator("#answer")).to_have_css("opacity", "1")


def test_an_old_answer_is_dimmed_and_its_boxes_are_not_on_a_new_picture(page, server):
    from playwright.sync_api import expect

    row = Image.new("L", (300, 100), 255)
    row.paste(three(90), (10, 5))
    row.paste(three(90), (150, 5))
    drop(page, "row.png", encoded(row))
    expect(page.locator("#choice button")).to_have_count(2)
    expect_fresh(page)
    assert boxes_drawn(page)
    server.process.send_signal(signal.SIGSTOP)
    try:
        drop(page, "three.png", encoded(three(400)))
        expect_old(page)
        assert not boxes_drawn(page)
        page.locator("#choice button").last.click()  # what draws anew draws none either
        page.emulate_media(color_scheme="dark")
        assert not boxes_drawn(page)
        expect(page.locator("#choice button")).to_have_count(2)
    finally:
        server.process.send_signal(signal.SIGCONT)
    expect(page.locator("#choice button")).to_have_count(0)
    expect(page.locator("#labels")).to_have_text("3")
    expect_fresh(page)
    assert boxes_drawn(page)


def test_the_page_says_when_the_server_is_gone_and_goes_on_by_itself(program, browser):
    from playwright.sync_api import expect

    page = browser.new_page()
    with running(program) as mine:
        page.goto(mine.url)
        draw(page, THREE)
        page.mouse.up()
        expect(page.locator("#labels")).to_have_text("3")
        mine.process.kill()
        mine.process.wait()
        page.get_by_role("button", name="Clear").click()
        draw(page, ((140, 50), (140, 230)))
        page.mouse.up()
        expect(page.locator("#error")).to_contain_text("does not answer")
        page.wait_for_timeout(4000)  # it is asked again and again
        expect_old(page)
        expect(page.locator("#labels")).to_have_text("3")
    with running(program, port=int(mine.url.rpartition(":")[2])):
        expect(page.locator("#labels")).to_have_text("1")
        expect(page.locator("#error")).to_be_empty()
        expect_fresh(page)
        page.close()


def answered(page, name, content):
    """What the server says of a chosen picture, and how many bytes it was sent."""
    page.get_by_text("No digit found. Draw one.").wait_for()
    with page.expect_response(lambda answer: RECOGNIZE in answer.url) as waited:
        page.locator("#file").set_input_files(
            {"name": name, "mimeType": f"image/{name.rpartition('.')[2]}", "buffer": content}
        )
    sent = int(waited.value.request.all_headers()["content-length"])
    return waited.value, sent


@pytest.mark.parametrize("kind", ["webp", "gif", "avif"])
def test_what_the_browser_opens_is_read(page, kind):
    answer, _ = answered(page, f"three.{kind}", encoded(three(400), kind))
    assert [digit["label"] for digit in answer.json()["digits"]] == [3]


def test_a_photo_of_20_megapixels_is_made_smaller_and_upright(page):
    upright = Image.new("RGB", (3648, 5472), "white")
    upright.paste(three(1200).convert("RGB"), (300, 200))
    upright.paste(Image.effect_noise((3000, 3000), 12).convert("RGB"), (324, 2000))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    photo = encoded(turned, "JPEG", quality=97, exif=exif)
    assert len(photo) > uploads.BODY
    answer, sent = answered(page, "photo.jpeg", photo)
    assert sent < uploads.BODY / 2
    digit = answer.json()["digits"][0]
    assert digit["label"] == 3
    inked = np.array(ImageOps.invert(three(1200)).getbbox())
    inked = (inked + [300, 200, 300, 200]) * 2000 / 5472
    left, top, width, height = digit["box"]
    np.testing.assert_allclose([left, top, left + width, top + height], inked, atol=6)


def test_what_is_sent_is_never_more_than_the_server_takes(page):
    noise = np.random.default_rng(0).integers(0, 255, (2400, 2400, 3), np.uint8)
    noise[:, :1200] = 255
    answer, sent = answered(page, "noise.png", encoded(noise, compress_level=1))
    assert 2**20 < sent <= uploads.BODY and answer.status == 200


def test_a_picture_on_its_way_can_be_left(page):
    """While a large one is opened what is shown is old; drawing leaves it."""
    from playwright.sync_api import expect

    large = Image.new("L", (5472, 3648), 255)
    large.paste(three(900), (200, 200))
    draw(page, THREE)
    page.mouse.up()
    expect(page.locator("#labels")).to_have_text("3")
    drop(page, "large.png", encoded(large))
    assert page.evaluate("document.body.className") == "stale"
    page.keyboard.press("Escape")
    expect(page.locator("#about")).to_contain_text("Draw one.")
    page.wait_for_timeout(1000)  # the large one does not come after all
    expect(page.locator("#paper")).to_have_class("drawing")
    expect_fresh(page)


def test_pictures_and_photos_are_chosen_by_keyboard(page):
    from playwright.sync_api import expect

    page.on("filechooser", lambda chooser: None)  # or each wait turns the interception on anew
    page.locator("#clear").focus()
    for name in ("Open a picture", "Take a photo"):
        page.keyboard.press("Tab")
        chosen = page.get_by_label(name)
        expect(chosen).to_be_focused()
        assert (
            chosen.evaluate("e => getComputedStyle(e.nextElementSibling).outlineStyle") == "solid"
        )
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(
            {"name": "three.png", "mimeType": "image/png", "buffer": encoded(three(300))}
        )
        expect(page.locator("#labels")).to_have_text("3")
        page.get_by_role("button", name="Clear").press("Enter")
        expect(page.locator("#labels")).to_be_empty()
        chosen.focus()
    expect(page.locator("#photo")).to_have_attribute("capture", "environment")
    expect(page.locator("#photo")).to_have_attribute("accept", "image/*")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width, height", [(390, 844), (844, 390), (667, 375), (360, 640)])
def test_nothing_is_cut_off_on_a_phone(page, width, height, scheme):
    from playwright.sync_api import expect

    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    draw(page, THREE)
    page.mouse.up()
    expect(page.locator("#labels")).to_have_text("3")
    page.evaluate("scrollTo(0, 0)")
    out = page.evaluate(
        """[...document.querySelectorAll("body *:not(input)")].filter(e => {
            const box = e.getBoundingClientRect();
            const overflows = e.clientWidth && e.scrollWidth > e.clientWidth + 1;
            return box.left < 0 || box.right > innerWidth + 0.5 || overflows;
        }).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert out == [] and page.evaluate("document.documentElement.scrollWidth") == width
    if width > height:  # to draw and see the answer nobody has to scroll
        for shown in ("#paper", "#clear", "label[for=file]", "label[for=photo]", "#answer"):
            box = page.locator(shown).bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= height, shown
    style = "n => getComputedStyle(document.documentElement).getPropertyValue(n)"
    for name in ("--text", "--quiet", "--accent", "--alarm"):
        for behind in ("--panel", "--ground"):
            pair = (page.evaluate(style, name), page.evaluate(style, behind))
            assert contrast(*pair) >= 4.5, (name, behind)


def contrast(*colours):
    """WCAG's: of the lighter luminance to the darker."""
    lights = []
    for colour in colours:
        digits = colour.strip().removeprefix("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        part = np.frombuffer(bytes.fromhex(digits), np.uint8) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)
