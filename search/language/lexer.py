"""`tokens`: a typed query as words, quoted strings, parts, conditions and the brackets around conditions.

Time and memory are linear in the length of the query. Whether something is an operator is decided here by
what stands right behind it: `-dog` is a sign, `-20` and `dog - cat` are words.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from search.language.syntax import (
    CROP,
    MAX_CONDITIONS,
    MAX_NESTING,
    MAX_TERMS,
    NAMES,
    PARTS,
    PREFIX,
    Piece,
    QuerySyntaxError,
    Token,
    cropless,
    is_picture,
    quote,
    shown,
    weight_of,
    weight_problem,
    weightless,
)

_BLANK = r"\s\x00-\x1f\x7f"
_BLANKS = re.compile(f"[{_BLANK}]*+")
_BARE = {
    stops: (re.compile(f"[^{_BLANK}{stops}]*+"), re.compile(f"[^{_BLANK}{stops}()]*+")) for stops in ("", ",")
}
_NAME = re.compile(r"([A-Za-z]{2,12})[:：]")  # the second is what a Chinese keyboard types
_UNKNOWN = re.compile(rf"([A-Za-z]{{3,12}}):[^{_BLANK}/:]")
_AHEAD = re.compile(rf"(?:[({_BLANK}+-]++|not(?=[{_BLANK}]))*+", re.IGNORECASE)
# Straight quotes end at a straight one; the typographic ones at any, as languages and keyboards differ.
_CLOSERS = {'"': '"', "＂": '＂"', "“": '“”‟"', "”": '“”‟"', "„": '“”‟"', "‟": '“”‟"', "«": "»"}
_QUOTES = frozenset(_CLOSERS)
_COMPARISON = re.compile("[<>=≤≥]*+")
_ESCAPE = re.compile(r"\\([\"＂“”„‟«»\\])")
# Most words: from a letter to a blank, and no character in them could mean more.
_SIMPLE = re.compile(rf"[^\W\d_][\w'’.,;!?-]*+(?![^{_BLANK}])")
_GUESSES = 50
"""Unknown names that are compared with the known ones: a longer text full of colons is no typed query."""


def tokens(query: str) -> list[Token]:
    """Return the tokens of a query.

    Raises:
        QuerySyntaxError: an open quote, a bad weight, a name without a value, brackets nested too deep.
    """
    return _Lexer(query).all()


class _Lexer:
    def __init__(self, query: str) -> None:
        self.query, self.at, self.depth = query, 0, 0
        self.tokens: list[Token] = []
        self.group_known, self.group_found = -1, False  # what is known of brackets up to a place
        self.guesses: set[str] = set()
        self.unclosed: set[str] = set()
        self.counts: dict[str, int] = {}

    def all(self) -> list[Token]:
        query = self.query
        while True:
            self.at = _end(_BLANKS, query, self.at)
            if self.at >= len(query):
                return self.tokens
            if simple := _SIMPLE.match(query, self.at):
                self.tokens.append(Token("word", self.at, simple[0]))
                self.at = simple.end()
            elif self.depth and query[self.at] == ")":
                self.tokens.append(Token("close", self.at))
                self.at, self.depth = self.at + 1, self.depth - 1
            else:
                self.tokens.append(self.token())

    def error(self, at: int, problem: str) -> QuerySyntaxError:
        return QuerySyntaxError(self.query, at + 1, problem)

    def token(self) -> Token:
        query, token = self.query, Token("word", self.at)
        if query[self.at] in "+-" and (self.begins(self.at + 1) or self.prefix(self.at + 1)):
            token.sign = query[self.at]
            self.at += 1
        if query[self.at] == "(" and self.group(self.at):
            token.kind = "open"
            self.at, self.depth = self.at + 1, self.depth + 1
            if self.depth > MAX_NESTING:
                raise self.error(token.at, f"brackets nest more than {MAX_NESTING} deep; use fewer")
            return token
        if prefix := self.prefix(self.at):
            token.weight, token.prefixed = self.checked(float(prefix[1]), self.at), True
            self.at = prefix.end()
        if query[self.at] in _QUOTES and (token.sign or token.prefixed or self.closes(self.at)):
            return self.quoted(token)
        if (name := self.name(self.at)) is not None:
            token.name = NAMES[name[1].lower()]
            self.at = name.end()
            return self.part(token, name[1]) if token.name in PARTS else self.condition(token, name[1])
        return self.word(token)

    # -- what is ahead

    def begins(self, at: int) -> bool:
        """Tell whether a term or bracket starts here; else a sign in front of it is punctuation."""
        character = self.query[at : at + 1]
        if character == "(":
            return self.group(at)
        if not character.isascii():
            return character in _QUOTES or unicodedata.category(character)[0] in "LMS"
        if character in "./~" and character:
            return is_picture(cropless(weightless(self.bare(at))[0]))
        return character.isalpha() or character == '"'

    def closes(self, at: int) -> bool:
        """Tell whether a quote is closed; a straight one must be, others may be a slip in a pasted text."""
        opener = self.query[at]
        if opener != '"' and opener not in self.unclosed and not _string(opener).match(self.query, at + 1):
            self.unclosed.add(opener)  # nor is any that follows
        return opener not in self.unclosed

    def prefix(self, at: int) -> re.Match[str] | None:
        """Return the weight in front of a term: of `2:golden`, but not of `16:9` nor of `3:30 pm`."""
        found = PREFIX.match(self.query, at)
        return found if found and self.begins(found.end()) and self.query[found.end()] != "(" else None

    def group(self, at: int) -> bool:
        """Tell whether a bracket is around conditions: it starts with one. Others are part of a sentence."""
        if at > self.group_known:
            self.group_known = _end(_AHEAD, self.query, at)
            self.group_found = self.name(self.group_known) is not None
        return self.group_found

    def name(self, at: int) -> re.Match[str] | None:
        """Return the known name that stands here. `0 in: Nevada` has none, it is English."""
        found = _NAME.match(self.query, at)
        if not found or found[1].lower() not in NAMES:
            return None
        alone = found[1].lower() == "in" and _BLANKS.match(self.query, found.end())
        return None if alone and alone[0] else found

    def bare(self, at: int, stops: str = "") -> str:
        """Return the text up to the next blank, one of `stops`, or the bracket that closes a group."""
        end, level = at, 0
        unbroken, broken = _BARE[stops]
        if not self.depth:
            return self.query[at : _end(unbroken, self.query, at)]
        while True:
            end = _end(broken, self.query, end)
            character = self.query[end : end + 1]
            level += (character == "(") - (character == ")")
            if level < 0 or character not in ("(", ")"):
                return self.query[at:end]
            end += 1

    # -- words and strings

    def word(self, token: Token) -> Token:
        start, word = self.at, self.bare(self.at)
        self.at += len(word)
        head, weight = weightless(word)
        if is_picture(cropless(head)):
            token.name, self.at = "image", start
            return self.part(token, "image")
        if weight is not None and any(character.isalpha() or character > "\x7f" for character in head):
            self.weigh(token, weight, start + len(head))
            word = head
        token.text = word
        if (unknown := _UNKNOWN.match(word)) and (known := self.guess(unknown[1].lower())):
            problem = f"{unknown[1]}: is no field; did you mean {known}:? (as words: {quote(word[:40])})"
            raise self.error(start, problem)
        return token

    def guess(self, name: str) -> str | None:
        """Return the known name that was probably meant."""
        if name not in self.guesses and len(self.guesses) >= _GUESSES:
            return None
        self.guesses.add(name)
        from difflib import get_close_matches

        return next(iter(get_close_matches(name, NAMES, 1, 0.8)), None)

    def quoted(self, token: Token) -> Token:
        start = self.at
        token.kind, token.value = "quoted", self.string()
        token.text = self.query[start : self.at]
        self.suffix(token)
        rest = self.bare(self.at)
        if rest:
            if token.sign or token.weight is not None:
                raise self.error(self.at, "a blank must stand behind the closing quote")
            if rest[0] == "^":
                raise self.error(self.at, "a weight is a number, such as ^2 or ^0.5")
            self.at += len(rest)
            token.kind, token.text = "word", self.query[start : self.at]  # "stop", said the sign
        elif not token.value.strip():
            raise self.error(start, "nothing stands between these quotes")
        return token

    def string(self) -> str:
        """Return what the quoted string here says, and go behind it."""
        opener = self.query[self.at]
        found = _string(opener).match(self.query, self.at + 1)
        if found is None:
            raise self.error(
                self.at, f'this quote is never closed; close it, or write \\{opener} in "quotes"'
            )
        self.at = found.end()
        return _ESCAPE.sub(r"\1", found[1]) if "\\" in found[1] else found[1]

    # -- weights

    def suffix(self, token: Token) -> None:
        """Read the weight behind a quoted string, if there is one."""
        if self.query[self.at : self.at + 1] == "^":
            tail = self.bare(self.at + 1)
            if (weight := weight_of(tail)) is not None:
                self.weigh(token, weight, self.at)
                self.at += 1 + len(tail)

    def weigh(self, token: Token, weight: float, at: int) -> None:
        if token.weight is not None:
            raise self.error(at, "this has two weights; one is enough")
        token.weight = self.checked(weight, at)

    def checked(self, weight: float, at: int) -> float:
        if problem := weight_problem(weight):
            raise self.error(at, problem)
        return weight

    # -- names with values

    def part(self, token: Token, typed: str) -> Token:
        token.kind, start = "part", self.at
        self.count(token, 1)
        if self.query[start : start + 1] in _QUOTES:
            token.pieces = (Piece(self.string(), True, start),)
            if token.name == "image" and (crop := CROP.match(self.query, self.at)):
                self.crop(token, crop[0])
            self.suffix(token)
            if rest := self.bare(self.at):
                raise self.error(self.at, f"{shown(rest)} stands right behind the quote; a weight is ^2")
            return token
        value = self.bare(start)
        self.value_needed(value, typed, start)
        self.balanced(value, start)
        name, weight = weightless(value)
        if weight is not None:
            self.weigh(token, weight, start + len(name))
        if token.name == "image" and (whole := cropless(name)) != name:
            self.at = start + len(whole)
            self.crop(token, name[len(whole) :])
            name = whole
        token.pieces = (Piece(name, False, start),)
        self.at = start + len(value)
        return token

    def crop(self, token: Token, text: str) -> None:
        found = CROP.fullmatch(text)
        assert found is not None
        x, y, width, height = map(float, found.groups())
        if width <= 0 or height <= 0:
            raise self.error(self.at, "a crop is [x,y,width,height], width and height above 0")
        token.crop = (x, y, width, height)
        self.at += len(text)

    def condition(self, token: Token, typed: str) -> Token:
        token.kind = "condition"
        pieces: list[Piece] = []
        while True:
            start = self.at
            self.count(token, 1)
            quoted = _end(_COMPARISON, self.query, start)
            if self.query[quoted : quoted + 1] in _QUOTES:
                self.at = quoted
                pieces.append(Piece(self.query[start:quoted] + self.string(), True, start))
            else:
                pieces.append(Piece(self.bare(start, ","), False, start))
                self.at += len(pieces[-1].text)
                self.check_value(pieces, typed)
            if self.query[self.at : self.at + 1] != ",":
                break
            self.at += 1
        if rest := self.bare(self.at):
            raise self.error(self.at, f"{shown(rest)} stands right behind the quote; a blank must be there")
        token.pieces = tuple(pieces)
        return token

    def check_value(self, pieces: list[Piece], typed: str) -> None:
        text, at = pieces[-1].text, pieces[-1].at
        if len(pieces) > 1 and not text:
            example = "near:48.86,2.35" if NAMES[typed.lower()] == "near" else "type:raw,video"
            raise self.error(at, f"nothing stands right behind this comma; go on without a blank: {example}")
        self.value_needed(text, typed, at)
        self.balanced(text, at)
        if (end := len(weightless(text)[0])) < len(text):
            raise self.error(
                at + end, f"{typed}: is met or not and has no weight; quote a value that holds ^"
            )

    def count(self, token: Token, number: int) -> None:
        """Refuse what nobody types by hand."""
        limit = MAX_TERMS if token.kind == "part" else MAX_CONDITIONS
        self.counts[token.kind] = self.counts.get(token.kind, 0) + number
        if self.counts[token.kind] > limit:
            what = "pictures and concepts" if token.kind == "part" else "filters"
            raise self.error(token.at, f"a query holds at most {limit} {what}")

    def value_needed(self, text: str, typed: str, at: int) -> None:
        if not text:
            word = quote(typed + ":")
            raise self.error(at, f"{typed}: needs its value right behind the colon (as words: {word})")

    def balanced(self, text: str, at: int) -> None:
        if not self.depth and text.endswith(")") and text.count(")") > text.count("("):
            raise self.error(
                at + len(text) - 1,
                "no bracket of filters is open here: brackets hold filters only, words stand outside "
                "(quote the value if the bracket is part of it)",
            )


@functools.cache
def _string(opener: str) -> re.Pattern[str]:
    """Return the pattern of what follows a quote, up to and with the one that closes it."""
    closers = _CLOSERS[opener]
    return re.compile(rf"((?:[^\\{closers}]++|\\.)*+)[{closers}]", re.DOTALL)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
