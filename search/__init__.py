"""The question: query to hits. The room's door.

Reading order: `query` (what was asked: texts, pictures and conditions; a picture from a path, stdin or an
address), `fetch` (a picture from a public address, and from no other), `clipboard`. The query language:
`syntax`, `lexer`, `dates`, `conditions`, `language` (`parse`), `printing` (`print_query`), `composing`
(`compose_query`). The answer: `aims` (terms as embeddings), `fusion` (several parts made one ranking),
`ranking` (a question beside one library), `narrowing` (what is left of the ranking), `results` (`Hit`,
`Results`), `searcher` (`Searcher`).
"""

from __future__ import annotations

from search.calibration import Calibration, Curve, Null, of_bank, of_library, sentence_share
from search.composing import compose_query
from search.feedback import concept_threshold, concept_vector
from search.language import all_of, parse, parse_filter
from search.measuring import PHRASES, discriminant, nonsense
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

__all__ = [
    "PHRASES",
    "Calibration",
    "Concept",
    "Crop",
    "Curve",
    "Fusion",
    "Grouping",
    "Hit",
    "Indexed",
    "Null",
    "Picture",
    "Query",
    "QueryPicture",
    "QuerySyntaxError",
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
    "discriminant",
    "load_picture",
    "nonsense",
    "of_bank",
    "of_library",
    "parse",
    "parse_filter",
    "print_filter",
    "print_query",
    "sentence_share",
    "thumbnail",
    "words_read",
]
