"""Which addresses are refused, and the limits, against a server on the loopback that only a test lets in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from encoders import UsageError
from search import fetch
from search.fetch import fetch_picture, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "192.0.2.1",
        "198.18.0.1", "::1", "::",
        "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.jpg", "http://localhost/a.jpg", "http://0x7f.1/a.jpg", "http://2130706433/",
        "http://[::1]/a.jpg", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/", "http://0/",
    ],
)  # fmt: skip
def test_private_targets_are_refused_before_a_byte_is_sent(url: str) -> None:
    with pytest.raises(UsageError, match="not a public address"):
        fetch_picture(url)


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///a", "http://[::1/", "http://a:99999/", "ftp://a/", "http://user:pw@example.com/a"],
)
def test_malformed_addresses_are_one_line(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch_picture(url)
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_one_private_answer_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answers)
    with pytest.raises(UsageError, match=r"10\.0\.0\.1"):
        fetch_picture("http://rebind.example/a.jpg")


def test_unknown_name_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UsageError, match=r"no address for nowhere\.example"):
        fetch_picture("https://nowhere.example/a.jpg")


Handler = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Handler], str]]:
    """Return a function that serves a handler at an address that the gate lets through."""
    monkeypatch.setattr(fetch, "is_public", lambda address: True)
    servers = []

    def serve(handle: Handler) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                handle(self)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.daemon_threads = True
        server.handle_error = lambda *args: None  # type: ignore[method-assign]
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def answer(body: bytes = b"picture", status: int = 200, **headers: str) -> Handler:
    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return handle


def test_a_picture_comes_back_whole(served: Any) -> None:
    assert (
        fetch_picture(served(answer(b"x" * 100_000, Content_Type="image/jpeg")) + "/a%20b.jpg?c=ü")
        == b"x" * 100_000
    )


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (answer(status=404), "answered 404"),
        (answer(Content_Type="text/html; charset=utf-8"), "text/html, not to a picture"),
        (answer(Content_Encoding="gzip"), "compressed"),
        (answer(b""), "empty"),
        (answer(Content_Length="99"), "broke off"),
        (answer(Content_Length=str(21 * 1024 * 1024)), "larger than 20 MB"),
        (answer(status=302), "answered 302"),
        (answer(status=302, Location="file:///etc/passwd"), "only http"),
        (answer(status=302, Location="/again"), "more than 3 redirects"),
    ],
)
def test_anything_else_is_one_clear_line(served: Any, handler: Handler, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        fetch_picture(served(handler) + "/a.jpg")
    assert "\n" not in str(caught.value)


def test_an_endless_body_ends_at_the_limit(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 1 << 20)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 65536)

    with pytest.raises(UsageError, match="larger than"):
        fetch_picture(served(endless))


@pytest.mark.parametrize("drip_headers", [False, True])
def test_a_dripping_server_meets_the_time_limit(
    served: Any, monkeypatch: pytest.MonkeyPatch, drip_headers: bool
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.5)

    def drip(request: BaseHTTPRequestHandler) -> None:
        if not drip_headers:
            request.send_response(200)
            request.end_headers()
        else:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(100):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.1)

    started = time.monotonic()
    with pytest.raises(UsageError, match="took too long"):
        fetch_picture(served(drip))
    assert time.monotonic() - started < 3


def test_a_redirect_into_the_home_network_is_refused(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = served(answer(status=302, Location="http://10.0.0.1/router"))
    monkeypatch.setattr(fetch, "is_public", lambda ip: ip == "127.0.0.1")
    with pytest.raises(UsageError, match=r"10\.0\.0\.1, which is not a public address"):
        fetch_picture(address)
