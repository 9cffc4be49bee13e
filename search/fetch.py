"""A query picture from a public address, and from no other.

An address can point into the home network or at a machine's own services. So the name is resolved once, every
answer must be a global address, and the connection goes to that very address (a second look-up could answer
otherwise). Redirects pass the same gate.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from encoders import UsageError

MAX_BYTES = 20 * 1024 * 1024
TIMEOUT_S = 10.0
MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def fetch_picture(url: str) -> bytes:
    """Return the body at a public http(s) address.

    At most 20 MB, 10 s and 3 redirects; the type must be an image or unstated. Sends no cookies, no referrer.

    Raises:
        UsageError: anything else; the message is one line.
    """
    deadline = time.monotonic() + TIMEOUT_S
    asked = url
    for _ in range(MAX_REDIRECTS + 1):
        parts = _parse(url)
        try:
            status, location, body = _get(parts, deadline)
        except (OSError, http.client.HTTPException) as error:
            why = (
                "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            )
            raise UsageError(f"cannot fetch {asked}: {why}") from None
        if body is not None:
            return body
        if location is None:
            raise UsageError(f"cannot fetch {asked}: the server answered {status}")
        following = urljoin(url, location)
        if parts.scheme == "https" and urlsplit(following).scheme != "https":
            raise UsageError(f"cannot fetch {asked}: it redirects from https to something less safe")
        url = following
    raise UsageError(f"cannot fetch {asked}: more than {MAX_REDIRECTS} redirects")


def _parse(url: str) -> SplitResult:
    try:
        # Names outside ASCII travel percent-encoded; blanks and controls would split the request line.
        url = "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in url)
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except (ValueError, UnicodeError):
        raise UsageError(f"{url} is not a valid address") from None
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{url}: only http and https addresses can be fetched")
    if not host:
        raise UsageError(f"{url} names no host")
    if parts.username is not None:
        raise UsageError(f"{parts.scheme}://{host}: an address with a user name is not fetched")
    return parts


def _get(parts: SplitResult, deadline: float) -> tuple[int, str | None, bytes | None]:
    """Return (status, where a redirect leads, body of a 200)."""
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
    # http.client forgets the socket of an answer that ends with the connection, so it is held here.
    held = [_connect(parts.hostname, port, deadline)]
    # A time-out counts from byte to byte; a server that drips one every few seconds meets this one.
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _hang_up, [held])
    watchdog.daemon = True
    watchdog.start()
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(
                held[0], server_hostname=parts.hostname, do_handshake_on_connect=False
            )
            held[0] = wrapped
            wrapped.do_handshake()
        connection.sock = held[0]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": "pixseek", "Accept": "image/*", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as response:
            if response.status in _REDIRECTS:
                return response.status, response.getheader("Location"), None
            if response.status != 200:
                return response.status, None, None
            return 200, None, _body(response, deadline)
    finally:
        watchdog.cancel()
        connection.close()
        held[0].close()


def _hang_up(held: list[socket.socket]) -> None:
    try:
        held[0].shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    addresses = _resolve(host, port, deadline)
    # One private answer among public ones is how rebinding hides: all or nothing.
    for *_, address in addresses:
        if not is_public(str(address[0])):
            raise UsageError(f"{host} leads to {address[0]}, which is not a public address")
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(_left(deadline))
            connected.connect(address)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise failure


def _resolve(host: str, port: int, deadline: float) -> list[tuple[Any, Any, int, str, tuple[Any, ...]]]:
    # The resolver takes no time-out of ours, so it runs beside us.
    answer: list[Any] = []

    def look_up() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_left(deadline))
    if not answer:
        raise TimeoutError
    if isinstance(answer[0], UnicodeError):
        raise UsageError(f"{host} is not a valid host name")
    if isinstance(answer[0], OSError):
        raise OSError(f"no address for {host}: {answer[0].strerror}")
    found: list[tuple[Any, Any, int, str, tuple[Any, ...]]] = answer[0]
    return found


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the open internet, also behind IPv6 wrappings of IPv4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    _left(deadline)
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if (
        kind
        and not kind.startswith("image/")
        and kind not in ("application/octet-stream", "binary/octet-stream")
    ):
        raise UsageError(f"that address leads to {kind}, not to a picture")
    if (response.getheader("Content-Encoding") or "identity").lower() != "identity":
        raise UsageError("the server sends a compressed answer that was not asked for")
    too_large = UsageError(f"the picture at that address is larger than {MAX_BYTES // 1024**2} MB")
    if (response.length or 0) > MAX_BYTES:
        raise too_large
    body = bytearray()
    while piece := response.read1(1 << 16):
        body += piece
        if len(body) > MAX_BYTES:
            raise too_large
    _left(deadline)  # what the watchdog cut short is no picture
    if response.length:
        raise OSError("the connection broke off")
    if not body:
        raise UsageError("that address leads to an empty answer")
    return bytes(body)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
