"""`print_query`: a `Query` as what to type for it, such that `parse(print_query(query)) == query`.

That holds for normalised queries, which is what `parse` returns: texts and names as `clean_text` leaves
them, weights within bounds and 1 where a term is excluded, no `And` in an `And` and no `Or` in an `Or`, no
bound that excludes everything. Settings other than `terms` and `where` are not part of the language.
"""

from __future__ import annotations

from indexer import And, Filter, Near, Not, Or
from search.language.conditions import shown_condition, shown_value
from search.language.parsing import parse
from search.language.syntax import QuerySyntaxError, quote
from search.query import Concept, Indexed, Picture, Query, Term, Text

_OPENERS = frozenset("“”„‟«")


def print_query(query: Query) -> str:
    """Return what to type for the terms and filters of a query; "" when it has none."""
    sentence = next((i for i, term in enumerate(query.terms) if _is_sentence(term)), None)
    parts = [
        term.part.words
        if i == sentence and isinstance(term.part, Text)
        else _term(term, plus=i > 0 or sentence is not None)
        for i, term in enumerate(query.terms)
    ]
    if query.where is not None:
        parts.append(print_filter(query.where))
    return " ".join(parts)


def print_filter(where: Filter) -> str:
    """Return what to type for a filter."""
    if isinstance(where, Or):
        return _alternatives(where) or " or ".join(
            print_filter(part) if isinstance(part, And) else _factor(part, "") for part in where.parts
        )
    if isinstance(where, And):
        return " ".join(_factor(part, "") for part in where.parts)
    return _factor(where, "")


def _alternatives(where: Filter) -> str:
    """Return `type:raw,video` for conditions of one field, "" where they are not."""
    if not isinstance(where, Or) or any(isinstance(part, And | Or | Not | Near) for part in where.parts):
        return ""
    shown = [shown_condition(part) for part in where.parts]
    name = shown[0].partition(":")[0] + ":"
    if not all(one.startswith(name) for one in shown):
        return ""
    return name + ",".join(one.removeprefix(name) for one in shown)


def _factor(where: Filter, sign: str) -> str:
    if isinstance(where, Not):
        return "not " + _factor(where, "") if sign else _factor(where.part, "-")
    if isinstance(where, And | Or):
        return sign + (_alternatives(where) or f"({print_filter(where)})")
    return sign + shown_condition(where)


def _is_sentence(term: Term) -> bool:
    """Tell whether a term can be printed as bare words, whatever stands behind them."""
    if not isinstance(term.part, Text) or term.weight != 1 or term.excluded:
        return False
    last = term.part.words.rpartition(" ")[2].lower()
    if last.strip("(+-") in ("", "and", "or", "not"):  # could join, negate or hold what comes next
        return False
    if not _OPENERS.isdisjoint(term.part.words):  # could be closed by a quote in what comes next
        return False
    try:
        return parse(term.part.words) == Query(terms=(term,))
    except QuerySyntaxError:
        return False


def _term(term: Term, *, plus: bool) -> str:
    sign = "-" if term.excluded else ""
    weight = f"^{_number(term.weight)}" if term.weight != 1 else ""
    match term.part:
        case Text(words):
            word = words if words.isalpha() and not weight and sign else quote(words)
            return (sign or ("+" if plus and not weight else "")) + word + weight
        case Concept(name):
            return f"{sign}concept:{shown_value(name)}{weight}"
        case Indexed(file_id):
            return f"{sign}id:{file_id}{weight}"
        case Picture(source, crop):
            name = shown_value(source) if isinstance(source, str) else quote("(a picture in memory)")
            area = f"[{','.join(map(_number, crop))}]" if crop else ""
            return f"{sign}image:{name}{area}{weight}"


def _number(number: float) -> str:
    return repr(float(number)).removesuffix(".0")
