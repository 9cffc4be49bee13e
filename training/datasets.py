"""Pictures with what people wrote about them, read from the formats they come in.

A WebDataset tar holds pairs `KEY.webp` + `KEY.json`; the json has `captions` (people's sentences) or
`label` (and `style`).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what was written about it.

    Attributes:
        key: name of the picture in its set.
        image: encoded bytes, as in the file.
        captions: distinct sentences, runs of spaces made one; none where there is only a label.
        label: class name as written, empty where there is none.
        meta: the whole record.
    """

    key: str
    image: bytes
    captions: tuple[str, ...]
    label: str
    meta: dict[str, Any]

    @classmethod
    def of(cls, key: str, image: bytes, meta: dict[str, Any], *, field: str = "captions") -> Sample:
        """Return the sample of a record; `field` names the list of captions in it."""
        written = meta.get(field, [])
        if not isinstance(written, list):
            raise ValueError(f"{key}: {field} must be a list of strings")
        captions = (" ".join(str(caption).split()) for caption in written)
        return cls(key, image, tuple(dict.fromkeys(filter(None, captions))), str(meta.get("label", "")), meta)


def read_tar(path: Path, *, field: str = "captions") -> Iterator[Sample]:
    """Yield the samples of a tar in its order; `field` names the captions, `captions_zh` for one."""
    with tarfile.open(path) as tar:
        metas: dict[str, dict[str, Any]] = {}
        images: dict[str, bytes] = {}
        for member in tar:
            key, _, suffix = member.name.rpartition(".")
            handle = tar.extractfile(member)
            if handle is None:
                continue
            if suffix == "json":
                metas[key] = json.loads(handle.read())
            else:
                images[key] = handle.read()
            if key in metas and key in images:
                yield Sample.of(key, images.pop(key), metas.pop(key), field=field)
