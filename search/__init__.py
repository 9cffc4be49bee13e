"""The question: query to hits. The room's door.

Reading order: `query` (what was asked: texts, pictures and conditions; a picture from a path, stdin or an
address), `soundness` (what cannot be asked), `fetch` (a picture from a public address, and from no other),
`clipboard`. `language`: one string to a query and back. The answer: `prompts` (phrases around a short
text), `aims` (terms as embeddings), `fusion` (several parts made one ranking), `feedback` (examples),
`ranking` (a question beside one library), `negation`, `measuring` and `calibration` (what scores are
worth), `narrowing` (what is excluded, what stands behind what), `judging` (how probably a file matches),
`results` (`Hit`, `Results`), `listing` (hits; conditions alone), `reading` (what is read meanwhile),
`searcher` (`Searcher`). `duplicates`: which files are one picture.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.calibration import Calibration, Curve, Null, Scene, of_bank, of_library, sentence_share
    from search.duplicates.finding import DuplicateGroup, Duplicates, Member, find_duplicates
    from search.duplicates.grouping import group_hits
    from search.duplicates.keeping import KEEP_NAMES, KeepRule
    from search.duplicates.removal import RemovalStep, remove_duplicates, sidecars_of, undo_removal
    from search.feedback import concept_threshold, concept_vector
    from search.language.composing import compose_query
    from search.language.parsing import all_of, parse, parse_filter
    from search.language.printing import print_filter, print_query
    from search.language.syntax import QuerySyntaxError
    from search.listing import list_files
    from search.measuring import PHRASES, discriminant, nonsense
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

_HOMES = {
    "calibration": ("Calibration", "Curve", "Null", "Scene", "of_bank", "of_library", "sentence_share"),
    "language.composing": ("compose_query",),
    "duplicates.finding": ("DuplicateGroup", "Duplicates", "Member", "find_duplicates"),
    "feedback": ("concept_threshold", "concept_vector"),
    "duplicates.grouping": ("group_hits",),
    "duplicates.keeping": ("KEEP_NAMES", "KeepRule"),
    "language.parsing": ("all_of", "parse", "parse_filter"),
    "listing": ("list_files",),
    "measuring": ("PHRASES", "discriminant", "nonsense"),
    "language.printing": ("print_filter", "print_query"),
    "query": (
        "Concept",
        "Crop",
        "Fusion",
        "Grouping",
        "Indexed",
        "Picture",
        "Query",
        "QueryPicture",
        "Sort",
        "Term",
        "Text",
        "clean_text",
        "crop_picture",
        "load_picture",
        "words_read",
    ),
    "duplicates.removal": ("RemovalStep", "remove_duplicates", "sidecars_of", "undo_removal"),
    "results": ("Hit", "Results", "thumbnail"),
    "searcher": ("Searcher",),
    "prompts": ("bare_name", "encode_prompted"),
    "language.syntax": ("QuerySyntaxError",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "KEEP_NAMES",
    "PHRASES",
    "Calibration",
    "Concept",
    "Crop",
    "Curve",
    "DuplicateGroup",
    "Duplicates",
    "Fusion",
    "Grouping",
    "Hit",
    "Indexed",
    "KeepRule",
    "Member",
    "Null",
    "Picture",
    "Query",
    "QueryPicture",
    "QuerySyntaxError",
    "RemovalStep",
    "Results",
    "Scene",
    "Searcher",
    "Sort",
    "Term",
    "Text",
    "all_of",
    "bare_name",
    "clean_text",
    "compose_query",
    "concept_threshold",
    "concept_vector",
    "crop_picture",
    "discriminant",
    "encode_prompted",
    "find_duplicates",
    "group_hits",
    "list_files",
    "load_picture",
    "nonsense",
    "of_bank",
    "of_library",
    "parse",
    "parse_filter",
    "print_filter",
    "print_query",
    "remove_duplicates",
    "sentence_share",
    "sidecars_of",
    "thumbnail",
    "undo_removal",
    "words_read",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for and no more: a question needs no duplicates, a list of them no question."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(import_module(f"search.{_MODULE_OF[name]}"), name)
