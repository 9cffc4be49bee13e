"""A question put together by hand may mean nothing: it is refused, with what to write instead."""

from __future__ import annotations

import math
from numbers import Real
from operator import index as as_integer
from typing import TYPE_CHECKING, Any, get_args

from encoders import UsageError
from search.query import Concept, Fusion, Grouping, Indexed, Picture, Query, Sort, Term, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_SENTENCE = 'parse("a dog on a beach -people")'


def refuse_nonsense(query: Query) -> None:
    """Return where a question can be asked.

    Raises:
        UsageError: a value is none of those that `Query` documents, or two contradict each other.
    """
    if not isinstance(query, Query):
        raise UsageError(f"a question is a Query and not {_kind(query)}; {_SENTENCE} makes one")
    if not _is_integer(query.k) or query.k < 1:
        raise UsageError(f"k is {query.k}; it must be a whole number, 1 or more")
    _refuse_terms(query.terms)
    _refuse_ids(query.like, "like")
    _refuse_ids(query.unlike, "unlike")
    if both := set(query.like) & set(query.unlike):
        raise UsageError(f"picture {min(both)} is both a good and a bad example; say one of them")
    if query.min_probability is not None:
        _refuse_share(query.min_probability, "the least probability")
    _refuse_share(query.diversity, "diversity")
    _refuse_word(query.sort, "sort", Sort)
    if query.fusion is not None:
        _refuse_word(query.fusion, "fusion", Fusion)
    if query.group is not None:
        _refuse_word(query.group, "group", Grouping)
    if query.where is not None:
        from indexer import Filter

        if not isinstance(query.where, get_args(Filter)):
            raise UsageError(f"where is {_kind(query.where)}; parse_filter('taken:2023') makes a condition")


def _refuse_terms(terms: Sequence[Term]) -> None:
    if not isinstance(terms, tuple | list):
        raise UsageError(f"terms is {_kind(terms)}; it is a tuple of Term: (Term(Text('a dog')),)")
    for term in terms:
        if not isinstance(term, Term):
            raise UsageError(f"a term is {_kind(term)}; it must be a Term, such as Term(Text('a dog'))")
        if not isinstance(term.weight, Real) or not math.isfinite(term.weight) or not term.weight:
            raise UsageError(f"a weight is {term.weight}; it must be a number other than 0")
        match term.part:
            case Text(words=str()) | Concept(name=str()) | Picture(crop=None):
                pass
            case Picture(crop=crop):
                if not isinstance(crop, tuple | list) or [isinstance(x, Real) for x in crop] != [True] * 4:
                    raise UsageError(f"crop is {crop!r}; it is four numbers: (x, y, width, height)")
            case Indexed(file_id=file_id) if _is_integer(file_id):
                pass
            case Text() | Concept() | Indexed():
                raise UsageError(
                    f"{term.part!r} holds no text or no number; make it as in Term(Text('a dog'))"
                )
            case _:
                raise UsageError(
                    f"a part is {_kind(term.part)}; it must be a Text, Picture, Indexed or Concept: "
                    "Term(Text('a dog'))"
                )


def _refuse_ids(ids: Sequence[int], name: str) -> None:
    if not isinstance(ids, tuple | list) or not all(map(_is_integer, ids)):
        raise UsageError(f"{name} is {ids!r}; it is a tuple of numbers: (hit.file_id,)")


def _refuse_share(value: float, name: str) -> None:
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise UsageError(f"{name} is {value}; it must be between 0 and 1")


def _refuse_word(value: str, name: str, kind: Any) -> None:
    if value not in get_args(kind):
        raise UsageError(f"{name} is {value!r}; it is one of {', '.join(get_args(kind))}")


def _is_integer(value: object) -> bool:
    try:
        as_integer(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _kind(value: object) -> str:
    return "nothing" if value is None else f"of type {type(value).__name__}"
