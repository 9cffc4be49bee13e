"""Small data sets in every format, written by tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.color import COLORS


def picture_bytes(color: str = "red", suffix: str = "png", size: tuple[int, int] = (8, 6)) -> bytes:
    """Return an encoded picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, COLORS[color]).save(buffer, {"jpg": "JPEG", "webp": "WEBP"}.get(suffix, "PNG"))
    return buffer.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes | str | dict[str, Any]], mode: str = "w") -> Path:
    """Write a tar of members in the order given; a dict becomes json."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, dict):
                content = json.dumps(content)
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
