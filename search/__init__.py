"""The question: query to hits. The room's door.

Reading order: `query` (what was asked: texts, pictures and conditions; a picture from a path, stdin or an
address), `fetch` (a picture from a public address, and from no other), `clipboard`. The query language:
`syntax`, `lexer`, `dates`, `conditions`, `language` (`parse`), `printing` (`print_query`), `composing`
(`compose_query`). The answer: `aims` (terms as embeddings), `fusion` (several parts made one ranking),
`ranking` (a question beside one library), `narrowing` (what is left of the ranking), `results` (`Hit`,
`Results`), `searcher` (`Searcher`). Duplicates: `likeness` (what may be one picture), `closer` (what is),
`keeping` (which one stays), `duplicates` (`find_duplicates`), `grouping` (look-alikes among hits), `trash`,
`removal` (`remove_duplicates`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from search.composing import compose_query
from search.feedback import concept_threshold, concept_vector
from search.language import all_of, parse, parse_filter
from search.printing import print_filter, print_query
from search.query import (
    Concept,
    Crop,
    Fusion,
    Grouping,
    Indexed,
    Picture,
    Query,
    QueryPicture,
    Sort,
    Term,
    Text,
    clean_text,
    crop_picture,
    load_picture,
    words_read,
)
from search.results import Hit, Results, thumbnail
from search.searcher import Searcher
from search.syntax import QuerySyntaxError

if TYPE_CHECKING:
    from search.duplicates import DuplicateGroup, Duplicates, Member, find_duplicates
    from search.grouping import group_hits
    from search.keeping import KEEP_NAMES, KeepRule
    from search.removal import RemovalStep, remove_duplicates, sidecars_of, undo_removal

_HOMES = {
    "duplicates": ("DuplicateGroup", "Duplicates", "Member", "find_duplicates"),
    "grouping": ("group_hits",),
    "keeping": ("KEEP_NAMES", "KeepRule"),
    "removal": ("RemovalStep", "remove_duplicates", "sidecars_of", "undo_removal"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "KEEP_NAMES",
    "Concept",
    "Crop",
    "DuplicateGroup",
    "Duplicates",
    "Fusion",
    "Grouping",
    "Hit",
    "Indexed",
    "KeepRule",
    "Member",
    "Picture",
    "Query",
    "QueryPicture",
    "QuerySyntaxError",
    "RemovalStep",
    "Results",
    "Searcher",
    "Sort",
    "Term",
    "Text",
    "all_of",
    "clean_text",
    "compose_query",
    "concept_threshold",
    "concept_vector",
    "crop_picture",
    "find_duplicates",
    "group_hits",
    "load_picture",
    "parse",
    "parse_filter",
    "print_filter",
    "print_query",
    "remove_duplicates",
    "sidecars_of",
    "thumbnail",
    "undo_removal",
    "words_read",
]


def __getattr__(name: str) -> Any:
    """Import what only some commands ask for when they do."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(import_module(f"search.{_MODULE_OF[name]}"), name)
