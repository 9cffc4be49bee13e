"""The pictures of a recipe, read once: small copies in one file, sentences and hashes in another.

Reading a person's folder of large photos takes longer than an epoch, so it is done once per training:
`pictures.bin` holds JPEGs a little larger than the model reads, `pictures.json` what belongs to them.
Both are a cache: they can be deleted, and are made again when a source changes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from encoders import UsageError
from training.errors import DatasetError
from training.pretraining.recipes import Data, OpenClipRecipe
from training.sets.datasets import Sample, decoded, read_dataset

FORMAT = 1
HELD_OUT = -1
_ROOM = 1.3  # side of a copy over the side the model reads: crops of a training view stay sharp
_QUALITY = 95


class Stopped(Exception):
    """Someone asked to stop."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture and its sentences.

    Attributes:
        at, size: where its JPEG is in the pack, bytes.
        data: which [[data]] table it came from, or HELD_OUT.
        sha: 16 hex digits of blake2b over the file's bytes; equal: the same picture twice.
        texts: distinct sentences, those made from its label included; never empty.
        group: its label, empty where it has captions: pictures of one group say the same.
    """

    at: int
    size: int
    data: int
    sha: str
    texts: tuple[str, ...]
    group: str


class Pack:
    """Pictures on disk, sentences in memory.

    Attributes:
        pictures: in the order of the recipe and of each source.
        digest: hex blake2b over all that decides what is learned from them.
        notes: what was left out, one line each.
    """

    def __init__(self, folder: Path, pictures: Sequence[Picture], digest: str, notes: list[str]) -> None:
        self.pictures, self.digest, self.notes = tuple(pictures), digest, notes
        self._path = folder / "pictures.bin"

    def image(self, number: int) -> Image.Image:
        """Return a picture, RGB; several threads may ask."""
        picture = self.pictures[number]
        with self._path.open("rb") as file:  # each time: nothing to close, and small beside decoding
            file.seek(picture.at)
            data = file.read(picture.size)
        return Image.open(io.BytesIO(data)).convert("RGB")


def open_pack(
    recipe: OpenClipRecipe,
    side: int,
    folder: Path,
    *,
    report: Callable[[int], None],
    stop: threading.Event | None = None,
) -> Pack:
    """Return the pack of a recipe, made anew where there is none or a source changed.

    Args:
        side: pixels of the larger of what model and teacher read.
        folder: where the pack is kept.
        report: told how many pictures were taken up.
    Raises:
        UsageError: a source cannot be read, or there is nothing in it to learn from.
        Stopped: `stop` was set.
    """
    sources = [*recipe.data]
    if recipe.held_out.source is not None:
        held = recipe.held_out
        sources.append(Data(recipe.held_out.source, field=held.field, templates=held.templates))
    wanted = {
        "format": FORMAT,
        "side": side,
        "sources": [
            {"identity": _identity(one.source, recipe.out), "field": one.field, "share": one.share,
             "templates": list(one.templates)}
            for one in sources
        ],
    }  # fmt: skip
    known = _read_json(folder / "pictures.json")
    if known is not None and known.get("wanted") == wanted and (folder / "pictures.bin").is_file():
        pictures = [Picture(**one | {"texts": tuple(one["texts"])}) for one in known["pictures"]]
        if (folder / "pictures.bin").stat().st_size == sum(picture.size for picture in pictures):
            return Pack(folder, pictures, known["digest"], known["notes"])
    return _make(sources, len(recipe.data), side, folder, wanted, report, stop)


def _make(
    sources: list[Data],
    trained: int,
    side: int,
    folder: Path,
    wanted: dict[str, Any],
    report: Callable[[int], None],
    stop: threading.Event | None,
) -> Pack:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "pictures.bin.part"
    pictures: list[Picture] = []
    notes: list[str] = []
    digest = hashlib.blake2b(digest_size=16)
    at = 0
    with partial.open("wb") as file:
        for number, one in enumerate(sources):
            where = f"data[{number}]" if number < trained else "held_out"
            table = number if number < trained else HELD_OUT

            def say(line: str, where: str = where) -> None:
                notes.append(f"{where}: {line}")

            counts = _Counts()
            before = len(pictures)
            try:
                samples = read_dataset(one.source, field=one.field, say=say)
                for sample, image in decoded(_kept(samples, one, counts, stop), min_side=side, say=say):
                    sha, data = _sha(sample), _small(image, side)
                    texts = sentences(sample, one.templates)
                    group = "" if sample.texts else sample.label
                    pictures.append(Picture(at, len(data), table, sha, texts, group))
                    digest.update(json.dumps([table, sha, texts, group]).encode())
                    at += file.write(data)
                    report(len(pictures))
            except DatasetError as error:
                raise UsageError(f"{where}.source: {error}") from None
            if len(pictures) == before:
                raise UsageError(f"{where}.source: {one.source}: {_nothing(one, counts)}")
            if counts.silent:
                notes.append(f"{where}: {counts.silent:,} pictures have no caption and were left out")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / "pictures.bin")
    found: dict[str, Any] = {
        "wanted": wanted,
        "digest": digest.hexdigest(),
        "notes": notes,
        "pictures": [asdict(picture) for picture in pictures],
    }
    partial = folder / "pictures.json.part"
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(folder / "pictures.json")
    return Pack(folder, pictures, found["digest"], notes)


@dataclass(slots=True)
class _Counts:
    silent: int = 0
    labels: int = 0


def _kept(
    samples: Iterable[Sample], one: Data, counts: _Counts, stop: threading.Event | None
) -> Iterator[Sample]:
    """Yield what is of the share that is used and has something said about it. Raises Stopped."""
    for sample in samples:
        if stop is not None and stop.is_set():
            raise Stopped
        if int(_sha(sample)[:8], 16) >= one.share * 2**32:
            continue
        counts.labels += bool(sample.label)
        if sentences(sample, one.templates):
            yield sample
        else:
            counts.silent += 1


def _sha(sample: Sample) -> str:
    return hashlib.blake2b(sample.image, digest_size=8).hexdigest()


def sentences(sample: Sample, templates: Sequence[str]) -> tuple[str, ...]:
    """Return what is said about a picture: its captions or keywords, then its label in each template."""
    label = " ".join(sample.label.replace("_", " ").split())
    made = [template.replace("{}", label) for template in templates] if label else []
    return tuple(dict.fromkeys([*sample.texts, *made]))


def split(pack: Pack, *, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return (trained on, held out) as numbers of pictures; no picture is on both sides, whatever its name.

    Where the pack has a held-out source, that is what is held out; else `fraction` of the distinct
    pictures, at least one, chosen by hash.
    """
    pictures = pack.pictures
    held = {picture.sha for picture in pictures if picture.data == HELD_OUT}
    if held:
        out = [number for number, picture in enumerate(pictures) if picture.data == HELD_OUT]
    else:
        distinct = sorted({picture.sha for picture in pictures}, key=lambda sha: _draw(sha, seed))
        held = set(distinct[: max(1, round(len(distinct) * fraction)) if fraction else 0])
        out = [number for number, picture in enumerate(pictures) if picture.sha in held]
    trained = [number for number, p in enumerate(pictures) if p.data != HELD_OUT and p.sha not in held]
    return trained, out


def _draw(sha: str, seed: int) -> str:
    return hashlib.blake2b(f"{seed} {sha}".encode(), digest_size=8).hexdigest()


def _small(image: Image.Image, side: int) -> bytes:
    """Return a JPEG whose short side is at most `_ROOM` times `side`."""
    scale = side * _ROOM / min(image.size)
    if scale < 1:
        width, height = (max(1, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()


def _nothing(one: Data, counts: _Counts) -> str:
    """Return why no picture of a source is left, and what to do."""
    if counts.labels and not one.templates:
        return 'it has labels and no captions; add templates = ["a photo of a {}"]'
    if counts.silent:
        return f"no captions in {one.field!r} of its {counts.silent:,} pictures; set field, or add captions"
    return f"no picture is left of it with share = {one.share:g}; raise share"


def _identity(source: Path, out: Path) -> list[Any]:
    """Return what tells that a source changed: size and time of a file, or of everything in a folder.

    `out` may lie in a source; what is written there is no change of it.
    Several tars named at once (`train-{000..003}.tar`) are known by their folder.
    """
    try:
        if source.is_file():
            stat = source.stat()
            return [os.path.abspath(source), stat.st_size, stat.st_mtime_ns]
        count = size = latest = 0
        for root, folders, names in os.walk(source if source.is_dir() else source.parent):
            folders[:] = [name for name in folders if Path(root, name) != out]
            for name in names:
                stat = os.lstat(os.path.join(root, name))
                count, size, latest = count + 1, size + stat.st_size, max(latest, stat.st_mtime_ns)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from None
    return [os.path.abspath(source), count, size, latest]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
