"""Serves a page to draw digits on, and an API that reads the digits of pictures.

python -m lenet_jax.serve
python -m lenet_jax.serve --port 8080 --network lenet5-classic
python -m lenet_jax.serve --host 0.0.0.0
python -m lenet_jax.serve --allow-origin https://example.com
python -m lenet_jax.serve --allow-host example.com

The page is at http://127.0.0.1:8000, its API is described at /openapi.json:
curl -F picture=@scan.png http://127.0.0.1:8000/v1/recognize

Ctrl-C or SIGTERM stops it, once what has been asked is answered.
"""

import argparse
import importlib.util
import re
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from lenet_jax import commandline
from lenet_jax.errors import UserError
from lenet_jax.recognition import networks

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(arguments: Sequence[str]) -> int:
    """Serves until it is stopped; returns 0."""
    given = parse(arguments)
    for package in ("starlette", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed: pip install 'lenet_jax[serve]'")
    run = networks.check(given.network, only="LeNet5")
    networks.require_single(given.network, run)
    with listening(given.host, given.port) as listener:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit(0))  # uvicorn hands them on when it is done
        commandline.set_up_jax()
        import uvicorn

        from lenet_jax.serving import app
        from lenet_jax.serving.connections import Punctual

        hosts = [*LOOPBACK, *given.allow_host] if given.host in LOOPBACK else None
        served = app.create(given.network, given.allow_origin, hosts)
        # What Orbax leaves behind may fail unseen (commandline.run); a thread that answers may not.
        sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
        config = uvicorn.Config(
            served,
            http=Punctual,
            lifespan="off",
            ws="none",
            log_level="error",  # no line for each bad request
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=app.SECONDS + 2,
        )
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"{given.network} is at http://{host}:{port}  (Ctrl-C stops it)", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = commandline.parser("serve", __doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="the port; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--network", **commandline.READER)
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="pages of this origin, such as https://example.com, may use the API; * is every page, "
        "and more can be given (default: the server's own page alone)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that a proxy on this machine hands on as Host, such as example.com; more can "
        "be given (default: this machine's own names; of no use with another --host)",
    )
    given = parser.parse_args(arguments)
    given.allow_host = [name.lower() for name in given.allow_host]
    given.allow_origin = [origin(text) for text in given.allow_origin]
    if not 0 <= given.port <= 65535:
        raise UserError(f"--port is {given.port}, allowed are 0 to 65535")
    return given


def origin(text: str) -> str:
    """An origin as browsers send it; raises UserError for what is none."""
    parts = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", text.lower())
    if text != "*" and not parts:
        raise UserError(
            f"--allow-origin is {text}, allowed are http:// or https:// and a host, with a port or "
            "without and with nothing after it, such as https://example.com, and * for every page"
        )
    usual = {"http": ":80", "https": ":443"}  # which browsers leave out
    return text.lower().removesuffix(usual[parts[1]]) if parts else text


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises UserError where it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        # To the system's words the socket module adds, in brackets, what is said here already.
        reason = str(getattr(error, "strerror", None) or "no such host").partition(" (")[0]
        raise UserError(
            f"cannot listen at --host {host} --port {port}: {reason}. Give another --host (this "
            "machine is 127.0.0.1, all its networks 0.0.0.0) or --port (0 takes a free one)"
        ) from error


if __name__ == "__main__":
    commandline.run(main)
