"""The question: query to hits. The room's door.

Reading order: `query` (what was asked: texts, pictures and conditions; a picture from a path, stdin or an
address), `fetch` (a picture from a public address, and from no other). One typed string and a `Query`:
`syntax`, `lexer`, `dates`, `conditions`, `language` (`parse`), `printing` (`print_query`), `composing`
(`compose_query`: words and options of a command line). The answer: `searcher` (`Searcher`, `Hit`).
"""

from __future__ import annotations

from search.composing import compose_query
from search.language import parse, parse_filter
from search.printing import print_filter, print_query
from search.query import Concept, Indexed, Picture, Query, QueryPicture, Term, Text, clean_text, load_picture
from search.searcher import Hit, Searcher
from search.syntax import QuerySyntaxError

__all__ = [
    "Concept",
    "Hit",
    "Indexed",
    "Picture",
    "Query",
    "QueryPicture",
    "QuerySyntaxError",
    "Searcher",
    "Term",
    "Text",
    "clean_text",
    "compose_query",
    "load_picture",
    "parse",
    "parse_filter",
    "print_filter",
    "print_query",
]
