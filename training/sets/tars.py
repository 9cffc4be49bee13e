"""Pictures and words out of WebDataset tars: KEY.jpg beside KEY.json, KEY.txt, KEY.cls.

Source: the WebDataset format, https://github.com/webdataset/webdataset; Aizman et al. 2020, arXiv:2001.01858.
"""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as of_field
from pathlib import Path
from typing import Any

from training.errors import DatasetError
from training.sets.samples import CAPTIONS, Sample, Say

_WORDS = (".json", ".txt", ".cls")
_WAITING_BYTES = 256 * 2**20
"""Pictures that wait for words further on in the tar are kept up to here, then go without."""
_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(slots=True)
class _Parts:
    """What was read so far of one key."""

    image: bytes | None = None
    meta: dict[str, Any] = of_field(default_factory=dict)
    worded: bool = False

    @property
    def whole(self) -> bool:
        return self.image is not None and self.worded


def is_tar(path: Path) -> bool:
    """Return whether a file calls itself a tar, or is one under another name."""
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        return True
    with path.open("rb") as file:
        return file.read(262)[257:262] == b"ustar"


def read_shards(
    paths: Sequence[Path], *, field: str = CAPTIONS, pictures: bool = True, say: Say | None = None
) -> Iterator[Sample]:
    """Yield the samples of several tars in their order; a key carries the name of its tar."""
    for path in paths:
        for sample in read_tar(path, field=field, pictures=pictures, say=say):
            key = f"{path.name.partition('.')[0]}/{sample.key}"
            yield Sample(key, sample.image, sample.captions, sample.label, sample.meta, sample.keywords)


def read_tar(
    path: Path, *, field: str = CAPTIONS, pictures: bool = True, say: Say | None = None
) -> Iterator[Sample]:
    """Yield the samples of a tar in its order, the parts of one key side by side or apart.

    Args:
        field: names the captions in the json, `captions_zh` for one; a KEY.txt counts as `captions`.
        pictures: read the pictures; False leaves `image` empty and reads the words alone.
        say: told what was left out.
    Raises:
        DatasetError: cut short or not a tar (names the last whole sample), json that is none.
    """
    waiting: dict[str, _Parts] = {}
    waiting_bytes, current, last, count = 0, "", "", 0
    members = _members(path, pictures)
    while True:
        try:
            key, suffix, data = next(members, ("", "", b""))
        except _BROKEN as error:
            if not (count or waiting) and "not a tar" in str(error):
                raise DatasetError(f"{path} is not a tar") from None
            parts = waiting.get(current)
            count, last = (count + 1, current) if parts and parts.whole else (count, last)
            after = (
                f"after {count:,} whole samples, the last {last!r}"
                if count
                else "before the first whole sample"
            )
            raise DatasetError(f"{path} is cut short {after}; fetch it or pack it again") from None
        if current != key and current in waiting and waiting[current].whole:
            parts = waiting.pop(current)
            waiting_bytes -= len(parts.image or b"")
            count, last = count + 1, current
            yield Sample.of(current, parts.image or b"", parts.meta, field=field)
        if not key:
            break
        current = key
        parts = waiting.setdefault(key, _Parts())
        if suffix in _WORDS:
            _add_words(parts.meta, suffix, data, f"{path}: {key}{suffix}")
            parts.worded = True
        elif parts.image is None:
            parts.image = data
            waiting_bytes += len(data)
        if waiting_bytes > _WAITING_BYTES:
            oldest = next(key for key, parts in waiting.items() if parts.image is not None)
            parts = waiting.pop(oldest)
            waiting_bytes -= len(parts.image or b"")
            yield Sample.of(oldest, parts.image or b"", parts.meta, field=field)
    for key, parts in waiting.items():
        if parts.image is not None:
            yield Sample.of(key, parts.image, parts.meta, field=field)
    lonely = sum(parts.image is None for parts in waiting.values())
    if lonely and say:
        say(f"{path.name}: {lonely:,} records without a picture left out")


def _members(path: Path, pictures: bool) -> Iterator[tuple[str, str, bytes]]:
    """Yield (key, suffix, content) of the pictures and words; a picture's content only when asked for.

    Raises ReadError also where `tarfile` takes a broken header or a missing end for the end.
    """
    from indexer import IMAGE_SUFFIXES

    try:
        tar = tarfile.open(path)  # noqa: SIM115 (closed below; opening and reading fail differently)
    except (tarfile.ReadError, EOFError) as error:
        raise tarfile.ReadError(f"not a tar: {error}") from None
    with tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else every header of a million stays in memory
            folder, _, name = member.name.rpartition("/")
            stem, dot, ending = name.rpartition(".")
            suffix = f".{ending.lower()}"
            if not (member.isfile() and stem and dot) or name.startswith("."):
                continue
            is_picture = suffix in IMAGE_SUFFIXES
            if not is_picture and suffix not in _WORDS:
                continue
            content = tar.extractfile(member) if pictures or not is_picture else None
            yield f"{folder}/{stem}".lstrip("./"), suffix, content.read() if content else b""
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("no end mark")


def _add_words(meta: dict[str, Any], suffix: str, data: bytes, where: str) -> None:
    """Put what a KEY.json, KEY.txt or KEY.cls says into the record; raises DatasetError."""
    if suffix == ".json":
        meta |= parse_record(data, where)
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{where} is not UTF-8 text") from None
    if suffix == ".cls":
        meta.setdefault("label", text.strip())
    elif not meta.get(CAPTIONS):
        meta[CAPTIONS] = [line for line in text.splitlines() if line.strip()]


def parse_record(data: bytes, where: str) -> dict[str, Any]:
    """Return a json object; raises DatasetError, naming `where`, for anything else."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not json: {str(error).partition(' (char')[0]}") from None
    if not isinstance(record, dict):
        raise DatasetError(f'{where} must hold a json object such as {{"captions": [...]}}')
    return record
