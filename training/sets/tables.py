"""Captions kept in a table beside the pictures: COCO json, Flickr token files, csv and tsv with a header.

Sources: Chen et al. 2015, arXiv:1504.00325 (COCO captions); Hodosh et al. 2013 (Flickr8k);
Young et al. 2014 (Flickr30k).
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from training.errors import DatasetError
from training.sets.samples import CAPTIONS, Sample, Say

Row: TypeAlias = tuple[str, dict[str, Any]]
"""A picture's name and what one line says of it: `captions` (list), `label`, `keywords`."""

PICTURE_COLUMNS = (
    "image", "filepath", "path", "image_path", "filename", "file_name", "image_name", "file", "picture"
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "title", "text", "comment", "description", "sentence")
LABEL_COLUMNS = ("label", "class", "category")
KEYWORD_COLUMNS = ("keywords", "tags")
_TOKEN = re.compile(r"(?P<name>[^\t]+)#\d+\t(?P<caption>.*)")
_FOLDERS = ("", "images", "Images", "Flicker8k_Dataset", "flickr30k_images", "flickr30k-images")


def is_table(path: Path) -> bool:
    """Return whether a file's name is that of a table of captions: how one is found in a folder."""
    name = path.name.lower()
    return (
        (name.startswith("captions_") and name.endswith(".json"))
        or name.endswith(("results.token", "token.txt", "results_20130124.token"))
        or name in ("captions.txt", "captions.csv", "captions.tsv", "results.csv", "metadata.csv")
    )


def read_table(
    path: Path,
    *,
    field: str = CAPTIONS,
    images: Path | None = None,
    pictures: bool = True,
    say: Say | None = None,
) -> Iterator[Sample]:
    """Yield one sample per picture that a table names, its captions together.

    Rows of one picture may lie apart: then the words, never the pictures, are gathered in memory first.

    Args:
        field: the caption column of a csv; `captions` takes the first of `CAPTION_COLUMNS`.
        images: where the pictures are; else looked for beside the table and in folders of usual names.
        pictures: read the pictures; False leaves `image` empty, and only looks whether they are there.
        say: told how many pictures are not there.
    Raises:
        DatasetError: not a table known here, or none of its pictures is there.
    """
    if path.suffix.lower() == ".json":
        rows: Iterable[Row] = _coco_rows(path)
    else:
        rows = _grouped(lambda: _text_rows(path, field))
    find = _Finder(path, images)
    count, absent, first = 0, 0, ""
    for name, meta in rows:
        count += 1
        file = find(name)
        try:
            image = b"" if file is None or not pictures else file.read_bytes()
        except OSError:
            file = None
        if file is None:
            absent, first = absent + 1, first or name
            continue
        yield Sample.of(name, image, meta, field=CAPTIONS)
    if not count:
        raise DatasetError(f"{path} names no pictures")
    if absent == count:
        raise DatasetError(
            f"none of the {count:,} pictures named in {path} is there ({first!r} for one); "
            "say where they are with --images DIR"
        )
    if absent and say:
        say(f"{absent:,} of {count:,} pictures named in {path.name} are not there, {first!r} for one")


class _Finder:
    """Where the pictures of a table are; the folder that had the last one is looked at first."""

    def __init__(self, table: Path, images: Path | None) -> None:
        if images is not None and not images.is_dir():
            raise DatasetError(f"no such folder: {images}")
        split = table.stem.removeprefix("captions_")
        bases = [images] if images is not None else [table.parent, table.parent.parent]
        self.folders = [
            folder / part
            for base in bases
            for folder in (base / name for name in _FOLDERS)
            for part in (split, "")
        ]

    def __call__(self, name: str) -> Path | None:
        for number, folder in enumerate(self.folders):
            try:
                found = (folder / name).is_file()
            except (OSError, ValueError):  # a name too long, or with NUL in it
                return None
            if found:
                self.folders.insert(0, self.folders.pop(number))
                return folder / name
        return None


def _grouped(read: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Yield one row per picture; a table whose pictures come back later is gathered whole."""
    seen: set[int] = set()
    apart = False
    for name, _ in itertools.groupby(read(), key=lambda row: row[0]):
        apart = apart or hash(name) in seen
        seen.add(hash(name))
    seen.clear()
    if apart:
        whole: dict[str, dict[str, Any]] = {}
        for name, meta in read():
            _merge(whole.setdefault(name, {}), meta)
        yield from whole.items()
        return
    for name, group in itertools.groupby(read(), key=lambda row: row[0]):
        merged: dict[str, Any] = {}
        for _, meta in group:
            _merge(merged, meta)
        yield name, merged


def _merge(whole: dict[str, Any], row: dict[str, Any]) -> None:
    captions = [*whole.get(CAPTIONS, []), *row.get(CAPTIONS, [])]
    whole |= {name: value for name, value in row.items() if value and name != CAPTIONS}
    if captions:
        whole[CAPTIONS] = captions


# --- COCO


def _coco_rows(path: Path) -> Iterator[Row]:
    """Yield a row per picture of a COCO captions json; the json is read whole, as its layout demands."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not json: {str(error).partition(' (char')[0]}") from None
    try:
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        captions: dict[Any, list[str]] = {}
        for annotation in document["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
    except (KeyError, TypeError, AttributeError) as error:
        what = f"; {error} is missing" if isinstance(error, KeyError) else ""
        raise DatasetError(
            f"{path} is not a COCO captions file, which has images (id, file_name) and annotations "
            f"(image_id, caption){what}"
        ) from None
    del document
    for number, name in names.items():
        yield name, {CAPTIONS: captions.get(number, [])}


# --- text


def _text_rows(path: Path, field: str) -> Iterator[Row]:
    """Yield the rows of a token file, or of a csv in any of its dialects."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            if _TOKEN.match(first):
                yield from _token_rows(file)
            else:
                yield from _csv_rows(path, file, first, field)
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise DatasetError(f"{path} cannot be read as csv: {error}") from None


def _token_rows(file: Iterable[str]) -> Iterator[Row]:
    for line in file:
        if match := _TOKEN.match(line.rstrip("\r\n")):
            yield match["name"].strip(), {CAPTIONS: [match["caption"]]}


def _csv_rows(path: Path, file: Iterable[str], first: str, field: str) -> Iterator[Row]:
    """Yield the rows under a header, whose separator is the one it has most of."""
    separator = max("\t|,;", key=first.count)
    if separator in "\t|":  # here a quote is a character of the caption
        rows = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(file, delimiter=separator)
    header = [name.strip().strip('"') for name in next(rows, [])]
    lower = [name.lower() for name in header]

    def column(names: Iterable[str]) -> int | None:
        return next((lower.index(name) for name in names if name in lower), None)

    picture = column(PICTURE_COLUMNS)
    caption = column(CAPTION_COLUMNS) if field == CAPTIONS else column([field.lower()])
    label, keywords = column(LABEL_COLUMNS), column(KEYWORD_COLUMNS)
    if picture is None or (caption is None and (field != CAPTIONS or label is keywords is None)):
        need = "image and caption (or label)" if field == CAPTIONS else f"image and {field}"
        shown = ", ".join(filter(None, header[:8])) or "nothing"
        raise DatasetError(f"{path} needs columns such as {need}; its first line has: {shown[:120]}")

    def cell(row: list[str], number: int | None) -> str:
        text = row[number].strip() if number is not None and number < len(row) else ""
        return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text

    for row in rows:
        if name := cell(row, picture):
            meta = {"label": cell(row, label), "keywords": cell(row, keywords)}
            text = cell(row, caption)
            yield name, meta | ({CAPTIONS: [text]} if text else {})
