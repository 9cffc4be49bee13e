"""The question: query to hits. The room's door.

Reading order: `query` (what was asked: clean text, or a picture from a path, stdin or an address),
`fetch` (a picture from a public address, and from no other), `searcher` (`Searcher`, `Hit`).
"""

from __future__ import annotations

from search.query import QueryPicture, clean_text, load_picture
from search.searcher import Hit, Searcher

__all__ = ["Hit", "QueryPicture", "Searcher", "clean_text", "load_picture"]
