"""`Sample`: one picture with what was written about it, whatever file it came from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from training.errors import DatasetError

CAPTIONS = "captions"
"""The field that is read where none is asked for; `caption` and `description` stand in for it."""

Say: TypeAlias = Callable[[str], None]
"""Takes one line for a person about what was left out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what was written about it.

    Attributes:
        key: name of the picture in its set.
        image: encoded bytes, as in the file; empty where only the words were asked for.
        captions: distinct sentences, runs of spaces made one; none where there is only a label.
        label: class name as written, empty where there is none.
        meta: the whole record.
        keywords: what a person tagged the picture with, none where nobody did.
    """

    key: str
    image: bytes
    captions: tuple[str, ...]
    label: str
    meta: dict[str, Any]
    keywords: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: str, image: bytes, meta: dict[str, Any], *, field: str = CAPTIONS) -> Sample:
        """Return the sample of a record.

        Args:
            field: names the captions in the record, a list of strings or one string.
        Raises:
            DatasetError: captions or keywords that are no text.
        """
        written = _texts(key, field, meta.get(field))
        if not written and field == CAPTIONS:
            written = _texts(key, "caption", meta.get("caption"))
            written = written or _texts(key, "description", meta.get("description"))
        captions = tuple(dict.fromkeys(filter(None, (" ".join(text.split()) for text in written))))
        tags = meta.get("keywords")
        tags = re.split(r"[,;|]", tags) if isinstance(tags, str) else _texts(key, "keywords", tags)
        keywords = tuple(dict.fromkeys(filter(None, (" ".join(text.split()) for text in tags))))
        label = meta.get("label")
        return cls(key, image, captions, "" if label is None else str(label).strip(), meta, keywords)

    @property
    def texts(self) -> tuple[str, ...]:
        """What a person would ask for to find this picture: its captions, else its keywords as one line."""
        return self.captions or ((", ".join(self.keywords),) if self.keywords else ())

    @property
    def worded(self) -> bool:
        """Whether anything at all was written about the picture."""
        return bool(self.captions or self.keywords or self.label)


def _texts(key: str, field: str, written: object) -> list[str]:
    """Return a field's strings."""
    if written is None:
        return []
    if isinstance(written, str):
        return [written]
    if isinstance(written, (list, tuple)) and all(isinstance(text, str) for text in written):
        return list(written)
    raise DatasetError(f"{key}: {field!r} must be a string or a list of strings")


def in_words(label: str) -> str:
    """Return a class name as people write it."""
    return " ".join(label.replace("_", " ").split())
