"""Pictures with what people wrote about them, whatever format they come in: `read_dataset`.

| source | read as | by |
|---|---|---|
| `x.tar`, `x.tar.gz`, `train-{000..003}.tar`, `train-*.tar`, a folder of tars | WebDataset | `tars` |
| `captions_val2017.json` | COCO captions | `tables` |
| `results.token`, `Flickr8k.token.txt`, `captions.txt` | Flickr8k, Flickr30k | `tables` |
| csv or tsv with a header | image and caption, title, text or label | `tables` |
| a folder with such a table in it | that table | `tables` |
| any other folder | sidecars, metadata in the pictures, folder names as labels | `folders` |
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import DatasetError
from training.sets.folders import read_folder
from training.sets.samples import CAPTIONS, Sample, Say
from training.sets.tables import is_table, read_table
from training.sets.tars import is_tar, read_shards, read_tar

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CAPTIONS", "Sample", "Say", "decoded", "read_dataset", "read_tar"]


def read_dataset(
    source: str | Path,
    *,
    field: str = CAPTIONS,
    images: Path | None = None,
    pictures: bool = True,
    say: Say | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a data set, whose format is recognised; pictures are read on the way.

    Args:
        source: a file, a folder, or several tars as `name-{000..003}.tar` or a pattern with `*`.
        field: names the captions in json records, or the caption column: `captions_zh` for one.
        images: where the pictures of a table are, when they are not beside it.
        pictures: read the pictures; False leaves `image` empty and is quick: to count, to split.
        say: told, a line each and at the end, what was left out.
    Raises:
        DatasetError: at once when nothing is there or the format is none of the above; on the way when
            something is cut or malformed; at the end when nothing was written about any picture.
    """
    samples = _open(str(source), field, images, pictures, say)
    return _worded(samples, str(source), field)


def decoded(
    samples: Iterable[Sample], *, min_side: int, say: Say | None = None
) -> Iterator[tuple[Sample, Image.Image]]:
    """Yield each sample with its picture as the index sees it: upright, 8-bit sRGB.

    Args:
        min_side: pixels the encoder reads; large photos may be decoded at a reduced scale above 1.4 times it.
        say: told at the end how many could not be decoded.
    Raises:
        DatasetError: none could be decoded.
    """
    from indexer import ImageError, decode

    count, failed, first = 0, 0, ""
    for sample in samples:
        count += 1
        try:
            picture = decode(sample.image, min_side=min_side, name=sample.key)
        except ImageError as error:
            failed, first = failed + 1, first or f"{sample.key}: {error.reason}"
            continue
        yield sample, picture.frames[0][1]
    if failed and failed == count:
        raise DatasetError(f"none of the {count:,} pictures can be decoded; {first}")
    if failed and say:
        say(f"{failed:,} of {count:,} pictures cannot be decoded and were left out; {first}")


def _open(source: str, field: str, images: Path | None, pictures: bool, say: Say | None) -> Iterator[Sample]:
    """Return the reader that the source asks for, opened where that finds mistakes early."""
    if not source:
        raise DatasetError("an empty name; say which tar, table or folder to read")
    path = Path(source)
    if not path.exists():
        shards = _shards(source)
        return read_shards(shards, field=field, pictures=pictures, say=say)
    if path.is_dir():
        top = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        files = [entry for entry in top if entry.is_file()]
        if shards := [file for file in files if file.name.lower().endswith((".tar", ".tar.gz", ".tgz"))]:
            return read_shards(shards, field=field, pictures=pictures, say=say)
        tables = [file for file in files if is_table(file)]
        if len(tables) > 1:
            names = ", ".join(table.name for table in tables[:4])
            raise DatasetError(f"{path} holds several tables of captions ({names}); say which one")
        if not tables:
            return read_folder(path, field=field, pictures=pictures, say=say)
        path = tables[0]
    if not path.is_file():
        raise DatasetError(f"{path} is neither a file nor a folder")
    try:
        if is_tar(path):
            return read_tar(path, field=field, pictures=pictures, say=say)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix.lower() in (".json", ".token", ".txt", ".csv", ".tsv"):
        return read_table(path, field=field, images=images, pictures=pictures, say=say)
    raise DatasetError(
        f"{path} is no data set known here: give a WebDataset tar, COCO captions json, Flickr token file, "
        "csv or tsv, or a folder of pictures"
    )


def _shards(pattern: str) -> list[Path]:
    """Return the files that a pattern means, every one of them there."""
    found = []
    for name in _braces(pattern):
        matches = sorted(glob.glob(name)) if re.search(r"[*?\[]", name) else [name]
        if not matches or not Path(matches[0]).exists():
            raise DatasetError(f"no such file or folder: {name}")
        found += [Path(match) for match in matches]
    if strange := next((path for path in found if not path.is_file() or not is_tar(path)), None):
        raise DatasetError(f"{strange} is not a tar; only tars may be named several at once")
    return found


def _braces(pattern: str) -> list[str]:
    """Return what `x-{000..012}.tar` or `{a,b}.tar` stand for, as a shell would."""
    match = re.search(r"\{([^{}]+)\}", pattern)
    if match is None:
        return [pattern]
    inside = match[1]
    if span := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = int(span[1]), int(span[2])
        if last < first or last - first >= 100_000:
            raise DatasetError(f"{{{inside}}} is no range of shards; write for one {{000..012}}")
        width = max(len(span[1]), len(span[2])) if span[1].startswith("0") else 0
        words = [f"{number:0{width}d}" for number in range(first, last + 1)]
    elif "," in inside:
        words = inside.split(",")
    else:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return list(itertools.chain.from_iterable(_braces(before + word + after) for word in words))


def _worded(samples: Iterable[Sample], source: str, field: str) -> Iterator[Sample]:
    """Pass samples on; raises at the end when nothing was written about any of them."""
    count, worded = 0, False
    fields: set[str] = set()
    for sample in samples:
        count += 1
        worded = worded or sample.worded
        if not worded and len(fields) < 20:
            fields |= sample.meta.keys()
        yield sample
    if not count:
        raise DatasetError(f"no pictures in {source}")
    if not worded:
        has = f" (its records have: {', '.join(sorted(fields))})" if fields else ""
        raise DatasetError(
            f"no captions, keywords or labels in {source}: nothing in {field!r}{has}; write a sentence into "
            "x.txt beside x.jpg, or sort the pictures into folders named by what they show"
        )
