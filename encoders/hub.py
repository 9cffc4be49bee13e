"""The model hub: its cache on this machine, whether it answers, and fetching from it.

Addresses and the offline switch come from `huggingface_hub.constants` (HF_ENDPOINT, HF_HUB_OFFLINE), never
from the environment read here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

PROBE_SECONDS = 3.0


def cached_file(repo: str, names: tuple[str, ...]) -> Path | None:
    """Return the first of a repository's files that is in the hub's cache on this machine. No network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for name in names:
        found = try_to_load_from_cache(repo, name)
        if isinstance(found, str) and os.path.isfile(found):
            return Path(found)
    return None


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Forbid huggingface_hub and transformers the network: `local_files_only` alone lets calls through."""
    try:
        import huggingface_hub.constants as constants
    except ImportError:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_reachable() -> str | None:
    """Return None when the hub answers, else why not, in one clause, after at most `PROBE_SECONDS`."""
    try:
        import huggingface_hub.constants as constants
    except ImportError:
        return "huggingface_hub is not installed"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return reachable(constants.ENDPOINT)


def reachable(url: str) -> str | None:
    """Return None when a TCP connection to the host of `url` opens, else why not.

    Looking up a name can hang for longer than any socket timeout: it happens in a thread left behind.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
        except OSError as error:
            outcome.append(f"{host} cannot be reached ({error.strerror or error})")
        else:
            outcome.append(None)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0] if outcome else f"{host} did not answer in {PROBE_SECONDS:.0f} s"


def fetch(repo: str, names: tuple[str, ...], *, offline: bool) -> Path | str:
    """Return the first of `names` that is cached or can be fetched from a repository, else why not."""
    found = cached_file(repo, names)
    if found is not None:
        return found
    why = "offline mode is on" if offline else hub_reachable()
    if why is None:
        from huggingface_hub import hf_hub_download

        for name in names:
            try:
                return Path(hf_hub_download(repo, name))
            except Exception as error:
                why = f"fetching {name} failed ({one_line(error)})"
    return str(why)


def one_line(error: BaseException) -> str:
    """Return what an error says, short enough for a message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
