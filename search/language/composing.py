"""`compose_query`: a `Query` from the words and options of a command line.

An option is one part whole, whatever is in it: `--not "two people"` needs no quotes within quotes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import date

from indexer import Filter
from search.language.conditions import Surroundings
from search.language.parsing import all_of, parse, parse_filter, part_of, term_of, text_of
from search.language.syntax import (
    MAX_TERMS,
    NAMES,
    PARTS,
    PREFIX,
    Piece,
    QuerySyntaxError,
    Token,
    is_picture,
    weight_of,
    weight_problem,
)
from search.query import Query, Term


def compose_query(
    words: str | Sequence[str] | None = None,
    *,
    images: Sequence[str] = (),
    plus: Sequence[str] = (),
    minus: Sequence[str] = (),
    concepts: Sequence[str] = (),
    where: Sequence[str] = (),
    exists: Callable[[str], bool] = os.path.exists,
    cwd: str | None = None,
    home: str | None = None,
    today: date | None = None,
) -> Query:
    """Return the query of a command line; only `terms` and `where` are set.

    Args:
        words: a query as `parse` reads it; or arguments, which are such a query with blanks between them,
            except that `+` and `-` alone take the next argument whole, as rclip has it.
        images: `PATH`, `PATH:WEIGHT`; for the path also an address, `-` or `clipboard:`. A file of the very
            name wins over a weight.
        plus, minus: texts to add and to exclude; also `image:PATH`, `concept:NAME`, `id:123`, `./PATH`, and
            each with a weight as `2:TEXT` or `TEXT^2`. A weighted minus subtracts.
        concepts: `NAME` or `NAME:WEIGHT`.
        where: filters that must all hold.
        exists: tells whether there is such a file.
        cwd, home, today: see `parse`.
    Raises:
        QuerySyntaxError: something has no meaning, or nothing is asked for; `query` is the argument at fault.
    """
    around = Surroundings(cwd, home, today)
    arguments = [words] if isinstance(words, str) else list(words or ())
    rest, signed = _split(arguments)
    whole = [("+", argument) for argument in plus] + [("-", argument) for argument in minus]
    if len(rest) == 1:
        named = PREFIX.sub("", rest[0], count=1)
        if _is_file(named, around, exists) or (signed and is_picture(named)):
            signed, rest = [("+", rest[0]), *signed], []
    text = " ".join(rest)
    conditions: list[Filter] = [
        parse_filter(condition, cwd=cwd, home=home, today=today) for condition in where
    ]
    terms: list[Term] = []
    if text.strip() or not (images or whole or signed or concepts or conditions):
        query = parse(text, cwd=cwd, home=home, today=today)
        terms += query.terms
        conditions = [*([query.where] if query.where is not None else []), *conditions]
    terms += [_whole(argument, sign, around, exists) for sign, argument in signed]
    terms += [_named("image", argument, around, exists) for argument in images]
    terms += [_named("concept", argument, around, exists) for argument in concepts]
    terms += [_whole(argument, sign, around, exists) for sign, argument in whole]
    if len(terms) > MAX_TERMS:
        raise QuerySyntaxError(text, 1, f"a query holds at most {MAX_TERMS} texts and pictures")
    return Query(terms=tuple(terms), where=all_of(conditions) if conditions else None)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the arguments without sign, and those behind a `+` or `-` that stands alone."""
    rest: list[str] = []
    signed: list[tuple[str, str]] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument not in ("+", "-") or len(arguments) == 1:
            rest.append(argument)
        elif left:
            signed.append((argument, left.pop(0)))
        else:
            line = " ".join(arguments)
            raise QuerySyntaxError(
                line, len(line) + 1, f"{argument} takes the text or picture that follows it"
            )
    return rest, signed


def _whole(argument: str, sign: str, around: Surroundings, exists: Callable[[str], bool]) -> Term:
    """Return the term that an argument is as a whole, behind a sign."""
    token, start, end = Token("part", 0), 0, len(argument)
    if (prefix := PREFIX.match(argument)) and not _is_file(argument, around, exists):
        token.weight, token.prefixed, start = _checked(argument, 0, float(prefix[1])), True, prefix.end()
    value = argument[start:]
    head, caret, tail = value.rpartition("^")
    weight = weight_of(tail) if caret and head.strip() else None
    if weight is not None and not _is_file(value, around, exists):
        if token.prefixed:
            raise QuerySyntaxError(argument, start + len(head) + 1, "this has two weights; one is enough")
        token.weight, value = _checked(argument, start + len(head), weight), head
        end = start + len(head)
    name, colon, named = value.partition(":")
    nots = int(sign == "-")
    if colon and NAMES.get(name.lower()) in PARTS:
        token.name, token.pieces = NAMES[name.lower()], (Piece(named, True, end - len(named)),)
    elif is_picture(value) or _is_file(value, around, exists):
        token.name, token.pieces = "image", (Piece(value, True, start),)
    else:
        return term_of(argument, token, text_of(argument, start, value), nots)
    return term_of(argument, token, part_of(argument, token, around), nots)


def _named(name: str, argument: str, around: Surroundings, exists: Callable[[str], bool]) -> Term:
    """Return the term of `PATH:WEIGHT` or `NAME:WEIGHT`."""
    token, value = Token("part", 0, name=name), argument
    head, separator, tail = argument.rpartition(":")
    if not separator or weight_of(tail) is None:
        head, separator, tail = argument.rpartition("^")
    # http://host:8080 is no address with a weight.
    port = separator == ":" and "://" in head and "/" not in head.partition("://")[2]
    weight = weight_of(tail) if head and not port else None
    if weight is not None and not (name == "image" and exists(_place(argument, around))):
        token.weight, value = _checked(argument, len(head), weight), head
        if name == "image" and head == "clipboard":  # clipboard:0.5
            value = "clipboard:"
    token.pieces = (Piece(value, True, 0),)
    return term_of(argument, token, part_of(argument, token, around), 0)


def _checked(argument: str, at: int, weight: float) -> float:
    if problem := weight_problem(weight):
        raise QuerySyntaxError(argument, at + 1, problem)
    return weight


def _is_file(argument: str, around: Surroundings, exists: Callable[[str], bool]) -> bool:
    """Tell whether an argument is written as a file is, with `./` or `/`, and there is one."""
    return argument.startswith(("./", "../", "~/", "/")) and exists(_place(argument, around))


def _place(name: str, around: Surroundings) -> str:
    return os.path.join(around.cwd or "", around.path(name))
