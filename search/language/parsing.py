"""`parse`: one typed string to a `Query`. The grammar is in docs/queries.md.

    beach +"golden hour" -people image:./pool.jpg^0.5 taken:2023 -type:video

What is no operator is a word of the sentence: `Star Wars: a poster` and `black or white cat` are plain text.
"""

from __future__ import annotations

from datetime import date

from encoders import UsageError
from indexer import And, Filter, Not, Or
from search.language.conditions import Surroundings, ValueProblem, read_condition
from search.language.lexer import tokens
from search.language.syntax import MAX_NESTING, MAX_TERMS, Piece, QuerySyntaxError, Token, shown
from search.query import Concept, Indexed, Part, Picture, Query, Term, Text, clean_text

_BLANK_QUERY = 'the query is blank; say what the picture shows: pixseek search "a dog on a beach"'
_ONLY_FILTERS = "brackets hold only filters; put words and pictures outside"


def parse(text: str, *, cwd: str | None = None, home: str | None = None, today: date | None = None) -> Query:
    """Return the query that a person typed; only `terms` and `where` are set.

    Args:
        text: may hold lone surrogates, as command-line arguments do; names of files keep them.
        cwd: where relative folders of `in:` start; None is the working directory.
        home: what `~` stands for in names of files and folders; None leaves it as it is.
        today: what `taken:yesterday` starts from; None is today.
    Raises:
        QuerySyntaxError: it has no meaning; says what is expected, and in which column.
    """
    query = _Reader(text, Surroundings(cwd, home, today)).query()
    if not query.terms and query.where is None:
        raise QuerySyntaxError(text, 1, _BLANK_QUERY)
    return query


def parse_filter(
    text: str, *, cwd: str | None = None, home: str | None = None, today: date | None = None
) -> Filter:
    """Return the filter that a person typed; for the arguments see `parse`.

    Raises:
        QuerySyntaxError: it has no meaning, or it holds words or pictures.
    """
    reader = _Reader(text, Surroundings(cwd, home, today))
    query = reader.query()
    if query.terms:
        raise reader.error(reader.first_term, "only filters stand here, such as taken:2023 or -type:video")
    if query.where is None:
        raise QuerySyntaxError(text, 1, "no filter is given; an example: taken:2023 -type:video")
    return query.where


def all_of(parts: list[Filter]) -> Filter:
    """Return the filter that all parts meet; one or more."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,))]
    return And(tuple(flat)) if len(flat) > 1 else flat[0]


def any_of(parts: list[Filter]) -> Filter:
    """Return the filter that one of the parts meets; one or more."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Or) else (part,))]
    return Or(tuple(flat)) if len(flat) > 1 else flat[0]


class _Reader:
    """Reads one query, by recursive descent: `or` of rows of filters, `not` and brackets within."""

    def __init__(self, text: str, around: Surroundings) -> None:
        self.text, self.around = text, around
        self.tokens = tokens(text)
        self.negated = self._negated()
        self.terms: list[tuple[int, Term]] = []
        self.first_term = len(text)
        # The sentence so far: unsigned words and strings, whatever stands between them.
        self.sentence: list[Token] = []

    def error(self, at: int, problem: str) -> QuerySyntaxError:
        return QuerySyntaxError(self.text, at + 1, problem)

    def query(self) -> Query:
        where, _ = self._level(0, None, 0)
        self._end_sentence()
        self.terms.sort(key=lambda placed: placed[0])
        if self.terms:
            self.first_term = self.terms[0][0]
        return Query(terms=tuple(term for _, term in self.terms), where=where)

    # -- filters

    def _level(self, at: int, opened: Token | None, depth: int) -> tuple[Filter | None, int]:
        """Return the filter of a bracket, or of the whole query, and where its tokens end."""
        alternatives: list[list[Filter]] = [[]]
        while at < len(self.tokens):
            token = self.tokens[at]
            if token.kind == "close":
                return any_of([all_of(row) for row in alternatives]), at + 1
            if joint := self._joint(at, opened is not None):
                if joint == "or":
                    alternatives.append([])
                at += 1
                continue
            nots = self.negated.get(at, at) - at
            at += nots
            token = self.tokens[at]
            if token.kind in ("open", "condition"):
                nots += token.sign == "-"
                if depth + nots > MAX_NESTING:
                    raise self.error(token.at, f"more than {MAX_NESTING} brackets and negations around this")
            part: Filter | None
            if token.kind == "open":
                part, at = self._level(at + 1, token, depth + nots + 1)
            elif token.kind == "condition":
                part, at = self._condition(token), at + 1
            elif opened:
                raise self.error(token.at, _ONLY_FILTERS)
            else:
                self._term(token, nots)
                at += 1
                continue
            assert part is not None
            for _ in range(nots):
                part = Not(part)
            alternatives[-1].append(part)
        if opened:
            raise self.error(opened.at, "this bracket is never closed")
        rows = [all_of(row) for row in alternatives if row]
        return (any_of(rows) if rows else None), at

    def _condition(self, token: Token) -> Filter:
        try:
            return read_condition(token.name, token.pieces, self.around)
        except ValueProblem as problem:
            raise self.error(problem.piece.at, str(problem)) from None

    def _joint(self, at: int, inside: bool) -> str | None:
        """Return `and` or `or` when the word here joins filters; None when it is a word of the sentence."""
        token = self.tokens[at]
        word = token.text.lower() if len(token.text) < 4 and _bare(token) else ""
        if word not in ("and", "or"):
            return None
        before = at > 0 and self.tokens[at - 1].kind in ("condition", "close")
        after = self._filter_starts(at + 1)
        if before and after:
            return word
        if inside or ((before or after) and at in (0, len(self.tokens) - 1)):
            raise self.error(token.at, f"{word} must stand between two filters: taken:2023 {word} type:raw")
        if before or after:
            if word == "or":
                problem = "or joins filters only, and one side of it is words"
                raise self.error(token.at, f"{problem}; move the filter to the end of the query")
            return word  # a dog and taken:2023: all parts of a query must hold as it is
        return None

    def _filter_starts(self, at: int) -> bool:
        at = self.negated.get(at, at)
        return at < len(self.tokens) and self.tokens[at].kind in ("condition", "open")

    def _negated(self) -> dict[int, int]:
        """Return what each `not` negates, as places of tokens; a `not` that is a word is not in it.

        `not` before a filter, a picture or a concept; before a word or string only `NOT`, unless its
        neighbours are in capitals, too: DO NOT ENTER.
        """
        found: dict[int, int] = {}
        for at in range(len(self.tokens) - 2, -1, -1):
            token = self.tokens[at]
            if len(token.text) != 3 or token.text.lower() != "not" or not _bare(token):
                continue
            operand = found.get(at + 1, at + 1)
            kind = self.tokens[operand].kind
            if kind in ("condition", "open", "part") or (
                token.text == "NOT"
                and kind in ("word", "quoted")
                and not any(self._shouted(beside) for beside in (at - 1, at + 1))
            ):
                found[at] = operand
        return found

    def _shouted(self, at: int) -> bool:
        token = self.tokens[at] if at >= 0 else None
        return token is not None and token.kind == "word" and len(token.text) > 1 and token.text.isupper()

    # -- terms

    def _term(self, token: Token, nots: int) -> None:
        nots += token.sign == "-"
        if token.kind == "part":
            self._add(token, part_of(self.text, token, self.around), nots)
        elif token.sign or nots or (token.kind == "quoted" and token.weight is not None):
            words = token.value if token.kind == "quoted" else token.text
            self._add(token, text_of(self.text, token.at, words), nots)
        else:
            if token.prefixed:
                self._end_sentence()
            self.sentence.append(token)
            if token.weight is not None and not token.prefixed:
                if self.sentence[0].prefixed:
                    raise self.error(token.at, "this text has two weights; one is enough")
                self._end_sentence()

    def _add(self, token: Token, part: Part, nots: int = 0) -> None:
        if len(self.terms) >= MAX_TERMS:
            raise self.error(token.at, f"a query holds at most {MAX_TERMS} texts and pictures")
        self.terms.append((token.at, term_of(self.text, token, part, nots)))

    def _end_sentence(self) -> None:
        """Make the sentence a term; strings with no word beside them are terms of their own."""
        tokens, self.sentence = self.sentence, []
        if not tokens:
            return
        if all(token.kind == "quoted" for token in tokens):
            for token in tokens:
                self._add(token, text_of(self.text, token.at, token.value))
            return
        first, last = tokens[0], tokens[-1]
        try:
            text = Text(clean_text(" ".join(token.text for token in tokens)))
        except UsageError:
            return
        weight = last.weight if first.weight is None else first.weight
        self._add(Token("word", first.at, weight=weight), text)


def _bare(token: Token) -> bool:
    return token.kind == "word" and not token.sign and token.weight is None


def term_of(query: str, token: Token, part: Part, nots: int) -> Term:
    """Return a part with its weight: a weight and a minus subtract, a minus alone excludes."""
    weight = token.weight
    if nots > 1 or (nots and weight is not None and weight < 0):
        raise QuerySyntaxError(query, token.at + 1, "this is negated twice; once is enough")
    if weight is None:
        return Term(part, excluded=nots == 1)
    return Term(part, weight=-weight if nots else weight)


def text_of(query: str, at: int, words: str) -> Text:
    """Return the text of words that start at a place of the query, counted from 0."""
    try:
        return Text(clean_text(words))
    except UsageError:
        raise QuerySyntaxError(query, at + 1, "there is no readable word here") from None


def part_of(query: str, token: Token, around: Surroundings) -> Picture | Indexed | Concept:
    """Return what a token of kind `part` stands for."""
    piece = token.pieces[0]
    if token.name == "image":
        return Picture(_source(query, piece, around), token.crop)
    if token.name == "concept":
        return Concept(text_of(query, piece.at, piece.text).words)
    if not (piece.text.isascii() and piece.text.isdigit() and len(piece.text) <= 18):
        problem = f"id:{shown(piece.text)} is no number; --json shows the ids of answers: id:123"
        raise QuerySyntaxError(query, piece.at + 1, problem)
    return Indexed(int(piece.text))


def _source(query: str, piece: Piece, around: Surroundings) -> str:
    name = piece.text
    if name[:8].lower() == "file:///":
        from urllib.parse import unquote

        name = unquote(name[7:], errors="surrogateescape")
    if not name or "\0" in name:
        problem = "no file has such a name; give a picture: image:./pool.jpg"
        raise QuerySyntaxError(query, piece.at + 1, problem)
    return around.path(name)
