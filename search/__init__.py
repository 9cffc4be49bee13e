"""The question: query to hits. The room's door.

Reading order: `query` (what was asked: texts, pictures and conditions; a picture from a path, stdin or an
address), `fetch` (a picture from a public address, and from no other), `clipboard`, `searcher` (`Searcher`,
`Hit`).
"""

from __future__ import annotations

from search.query import (
    Concept,
    Crop,
    Indexed,
    Picture,
    Query,
    QueryPicture,
    Term,
    Text,
    clean_text,
    crop_picture,
    load_picture,
    words_read,
)
from search.searcher import Hit, Searcher

__all__ = [
    "Concept",
    "Crop",
    "Hit",
    "Indexed",
    "Picture",
    "Query",
    "QueryPicture",
    "Searcher",
    "Term",
    "Text",
    "clean_text",
    "crop_picture",
    "load_picture",
    "words_read",
]
