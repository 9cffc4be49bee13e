"""The encoders' cache folder: what was learned about files, so that a query need not learn it again.

hashes/<key>.json        sha256 of a weights file, valid while its (path, size, mtime_ns, inode) stay
specs/<key>.json         spec -> fingerprint, valid while the identity of its files stays
onnx/<fingerprint>/      the exported towers (`export` writes, `onnx_runtime` reads)
onnx/<fingerprint>.lock  held while exporting; never deleted
int8/<fingerprint>/      the picture tower in 8-bit integers (`int8_tower`)
runtimes/*.json          what was measured of an encoder on a machine (`runtimes`)

Everything here can be deleted at any time. A cache that cannot be written costs time and breaks nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

Identity: TypeAlias = dict[str, Any]
"""path, size, mtime_ns and inode of a file: equal means not touched since."""


def identity(path: Path) -> Identity:
    """Return who a file is now. Raises OSError."""
    stat = path.stat()
    return {
        "path": os.path.abspath(path),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "inode": stat.st_ino,
    }


def unchanged(known: Identity) -> bool:
    """Return whether the file is as it was, or gone: an export outlives the weights it was made from."""
    try:
        return identity(Path(known["path"])) == known
    except FileNotFoundError:
        return True
    except (OSError, KeyError, TypeError):
        return False


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces of 4 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(4 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None when it is missing or unreadable: a cache miss."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(value, indent=1, sort_keys=True).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


class Store:
    """One cache folder.

    Args:
        root: created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))

    def onnx_dir(self, fingerprint: str) -> Path:
        """Return where the towers of a fingerprint are or would be."""
        return self.root / "onnx" / fingerprint

    def weights_sha256(self, path: Path) -> str:
        """Return the sha256 of a weights file; read again only when the file's identity changes."""
        who = identity(path)
        entry = self.root / "hashes" / f"{_key(who['path'])}.json"
        known = read_json(entry)
        if known is not None and known.get("identity") == who and isinstance(known.get("sha256"), str):
            return str(known["sha256"])
        digest = sha256_file(path)
        if identity(path) == who:
            with contextlib.suppress(OSError):
                write_json(entry, {"identity": who, "sha256": digest})
        return digest

    def recall(self, spec: str) -> dict[str, Any] | None:
        """Return what was learned about a spec, or None when it is unknown or its files changed since."""
        entry = read_json(self.root / "specs" / f"{_key(spec)}.json")
        if entry is None or entry.get("spec") != spec or not isinstance(entry.get("fingerprint"), str):
            return None
        files = entry.get("files")
        if not isinstance(files, list) or not all(unchanged(known) for known in files):
            return None
        return entry

    def remember(self, spec: str, entry: dict[str, Any]) -> None:
        """Keep what was learned about a spec; a cache that cannot be written is left alone."""
        with contextlib.suppress(OSError):
            write_json(self.root / "specs" / f"{_key(spec)}.json", {**entry, "spec": spec})

    def entries(self) -> list[dict[str, Any]]:
        """Return what was learned about every spec so far, in order of spec."""
        found = [read_json(path) for path in sorted((self.root / "specs").glob("*.json"))]
        return sorted(
            (e for e in found if e and isinstance(e.get("spec"), str)), key=lambda e: str(e["spec"])
        )

    @contextlib.contextmanager
    def export_lock(self, fingerprint: str) -> Iterator[bool]:
        """Wait for the right to export a fingerprint; yields whether the system really gave a lock."""
        folder = self.root / "onnx"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{fingerprint}.lock", "ab") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
                locked = True
            except (ImportError, OSError):
                locked = False
            yield locked


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
