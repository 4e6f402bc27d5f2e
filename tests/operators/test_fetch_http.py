"""Fetch from web servers: where it is allowed, private hosts, redirects, limits and patience."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fetching import failure, fetch
from overpaint.operators.sources import addresses


class Server:
    """A web server whose pages are functions of the handler; counts what it is asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keeper.asked.append(self.path)
                page = keeper.pages.get(self.path.split("?")[0])
                if page is None:
                    self.send_error(404)
                else:
                    page(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def page(
    data: bytes, status: int = 200, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return send


LOCAL = {"allow_http": True, "allow_private_hosts": ("127.0.0.1",), "attempts": 1}


def test_fetch_http_only_where_it_is_allowed(server, tmp_path, noise):
    server.pages["/a%20b.png"] = page(noise(1))
    url = f"{server.url}/a b.png?x=1"
    assert failure(tmp_path, url) == "source_forbidden"
    assert failure(tmp_path, url, allow_http=True) == "source_forbidden"
    assert server.asked == []
    assert fetch(tmp_path, url, **LOCAL)["source_image"] == noise(1)
    assert server.asked == ["/a%20b.png?x=1"]


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_fetch_private_host_in_any_spelling_is_forbidden(server, tmp_path, noise, host):
    server.pages["/a.png"] = page(noise(1))
    url = f"http://{host}:{server.port}/a.png"
    assert failure(tmp_path, url, **LOCAL) in ("source_forbidden", "source_unreachable")
    assert server.asked == []


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:{port}/a.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.png",
    ],
)
def test_fetch_redirect_is_checked_again(server, tmp_path, noise, location):
    server.pages["/a.png"] = page(noise(1))
    server.pages["/go"] = page(b"", 302, Location=location.format(port=server.port))
    assert failure(tmp_path, f"{server.url}/go", **LOCAL) == "source_forbidden"
    assert server.asked == ["/go"]


def test_fetch_redirects_are_followed_and_counted(server, tmp_path, noise):
    server.pages["/a.png"] = page(noise(1))
    server.pages["/go"] = page(b"", 301, Location="/a.png")
    server.pages["/loop"] = page(b"", 307, Location="/loop")
    assert fetch(tmp_path, f"{server.url}/go", **LOCAL)["width_px"] == 48
    assert failure(tmp_path, f"{server.url}/loop", **LOCAL) == "source_unreachable"
    assert server.asked.count("/loop") == 6


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "source_missing"),
        (410, "source_missing"),
        (403, "source_forbidden"),
        (418, "source_unreachable"),
        (500, "source_unreachable"),
    ],
)
def test_fetch_answer_of_a_server_has_a_code(server, tmp_path, status, code):
    server.pages["/a.png"] = page(b"no", status)
    assert failure(tmp_path, f"{server.url}/a.png", **LOCAL) == code


def test_fetch_busy_server_is_asked_again(server, tmp_path, noise):
    def busy_once(handler: BaseHTTPRequestHandler) -> None:
        page(noise(1), 503 if len(server.asked) == 1 else 200)(handler)

    server.pages["/a.png"] = busy_once
    assert fetch(tmp_path, f"{server.url}/a.png", **{**LOCAL, "attempts": 3})["width_px"] == 48
    assert len(server.asked) == 2


def test_fetch_large_answer_is_cut_off_declared_or_not(server, tmp_path):
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10_000):
            try:
                handler.wfile.write(bytes(10_000))
            except OSError:
                return

    server.pages["/declared"] = page(bytes(5000))
    server.pages["/endless"] = endless
    for path in ("/declared", "/endless"):
        fields = {**LOCAL, "max_bytes": 4000}
        assert failure(tmp_path, server.url + path, **fields) == "source_too_large"


def test_fetch_trickle_ends_at_the_time_limit(server, tmp_path):
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            try:
                handler.wfile.write(b"x")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    server.pages["/a.png"] = trickle
    start = time.monotonic()
    assert failure(tmp_path, f"{server.url}/a.png", **LOCAL, timeout_s=0.5) == "source_timeout"
    assert time.monotonic() - start < 3


def test_fetch_answer_that_breaks_off_is_unreachable(server, tmp_path, noise):
    server.pages["/a.png"] = page(noise(1)[:500], **{"Content-Length": "5000"})
    assert failure(tmp_path, f"{server.url}/a.png", **LOCAL) == "source_unreachable"


def test_fetch_host_that_does_not_answer_is_unreachable(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
        assert failure(tmp_path, url, **LOCAL) == "source_unreachable"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("172.16.3.4", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_address_of_the_open_internet_alone_is_public(address, expected):
    assert addresses.is_public(ipaddress.ip_address(address)) is expected
