"""Pictures in folders: sidecar captions, what the pictures say themselves, and folder names as classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.errors import DatasetError
from training.sets.samples import CAPTIONS, Sample, Say
from training.sets.tars import parse_record


def read_folder(
    folder: Path, *, field: str = CAPTIONS, pictures: bool = True, say: Say | None = None
) -> Iterator[Sample]:
    """Yield the pictures below a folder, folder by folder, names in order.

    Words of `x.jpg`, first found first: `x.json` or `x.jpg.json`, `x.txt` or `x.jpg.txt` (a caption a
    line), `x.xmp` or `x.jpg.xmp`, then XMP, IPTC or EXIF inside the picture. `label` is the name of the
    folder a picture is in, where that is not `folder` itself and the json says no other.

    Args:
        field: names the captions in the json.
        pictures: return the pictures; False leaves `image` empty.
        say: told what could not be read.
    Raises:
        DatasetError: no pictures there, json that is none.
    """
    from indexer import describe

    count, unreadable, first = 0, 0, ""
    for file, names in _walk(folder):
        meta = sidecars(file, names)
        written = bool(Sample.of(file.name, b"", meta, field=field).texts)
        image = b""
        if pictures or not written:
            try:
                image = file.read_bytes()
            except OSError as error:
                unreadable, first = unreadable + 1, first or f"{file}: {error.strerror}"
                continue
        if not written and field == CAPTIONS:
            about = describe(image, name=file.name)
            if about.caption:
                meta[CAPTIONS] = [about.caption]
            if about.keywords and not meta.get("keywords"):
                meta["keywords"] = list(about.keywords)
        if file.parent != folder:
            meta.setdefault("label", file.parent.name)
        count += 1
        yield Sample.of(str(file.relative_to(folder)), image if pictures else b"", meta, field=field)
    if unreadable and say:
        say(f"{unreadable:,} pictures could not be read, {first} for one")
    if not count:
        raise DatasetError(f"no pictures in {folder}")


def _walk(folder: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yield (picture, names of the files beside it); hidden files and folders are passed over."""
    from indexer import IMAGE_SUFFIXES

    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = frozenset(files)
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(where) / name, names


def sidecars(file: Path, names: frozenset[str]) -> dict[str, Any]:
    """Return what the files beside a picture say of it."""
    meta: dict[str, Any] = {}
    for suffix in (".json", ".txt", ".xmp"):
        for name in (file.name + suffix, file.stem + suffix):
            if name not in names:
                continue
            path = file.with_name(name)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
            if suffix == ".json":
                meta |= parse_record(data, str(path))
            elif suffix == ".txt":
                lines = data.decode("utf-8-sig", "replace").splitlines()
                meta.setdefault(CAPTIONS, [line for line in lines if line.strip()])
            else:
                _add_xmp(meta, data)
            break
    return meta


def _add_xmp(meta: dict[str, Any], packet: bytes) -> None:
    from PIL import Image

    from indexer import read_blocks

    about = read_blocks(Image.Exif(), packet)
    if about.caption:
        meta.setdefault(CAPTIONS, [about.caption])
    if about.keywords:
        meta.setdefault("keywords", list(about.keywords))
