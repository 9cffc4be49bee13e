"""From a command line to a question: its words, pictures, conditions and numbers."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import typer.core

from face.choices import folder_bytes

if TYPE_CHECKING:
    from indexer import Filter
    from search import Crop, Indexed, Picture, Query, Term

STDIN_TWICE = "- is standard input, which can be read once; name the other pictures"
# --diverse without a number: costs a tenth of the right answers at most (docs/fusion.md).
_DIVERSITY = "0.3"
# What people type who know rclip. Not in --help: each has a name of its own here. None: it always does so.
_ALIASES: dict[str, str | None] = {
    "-t": "-k", "--top": "-k", "-a": "--plus", "--add": "--plus", "-s": "--not", "--sub": "--not",
    "--subtract": "--not", "-f": "--paths-only", "--filepath-only": "--paths-only", "-p": "--preview",
    "-n": None, "--no-indexing": None, "--skip-index": None,
}  # fmt: skip
# Flags that may share a dash, as in -fp; no word is made of these.
_FLAGS = frozenset("0fpn")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")
# `camera:EOS R5`, `+golden hour`: the shell ate the quotes of camera:"EOS R5".
_QUOTED_ONCE = re.compile(r"([-+]?(?:[a-z]+:)?)([^\"\\]*\s[^\"\\]*)")
# `./my pool.jpg`: a picture whose name has a blank.
_PICTURE_WITH_BLANK = re.compile(r"([-+]?)((?:\.{1,2}|~)?/[^\"\\]*\s[^\"\\]*\.\w{2,5})")


# --- words


class SearchCommand(typer.core.TyperCommand):
    """`search`, where a word may begin with a minus: `-people` is part of the question, no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        takes_value: dict[str, bool] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, typer.core.TyperOption):
                for name in parameter.opts:
                    takes_value[name] = not parameter.is_flag
        options, words = sort_arguments(args, takes_value, ctx.fail)
        return super().parse_args(ctx, [*options, "--", *words])


def sort_arguments(
    arguments: Sequence[str], takes_value: dict[str, bool], fail: Callable[[str], NoReturn]
) -> tuple[list[str], list[str]]:
    """Return (options and their values, words of the question), each in order.

    Args:
        takes_value: of every option by its name with dashes.
        fail: raises the error that the person sees.
    """
    options: list[str] = []
    words: list[str] = []
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        if word == "--":
            words += rest
            break
        name, equals, value = word.partition("=")
        if name in takes_value or name in _ALIASES:
            known = _ALIASES.get(name, name)
            if known is None:
                continue
            if known == "--diverse" and not equals:
                value = rest.popleft() if rest and _NUMBER.fullmatch(rest[0]) else _DIVERSITY
                options.append(f"--diverse={value}")
            elif not takes_value.get(known):
                options.append(known + equals + value)
            elif equals:
                options += [known, value]
            else:
                if not rest:  # the `--` that follows the options would become its value
                    fail(f"{name} needs a value behind it")
                options += [known, rest.popleft()]
        elif match := re.fullmatch(r"-[kt]([0-9]+)", word):
            options += ["-k", match[1]]
        elif len(word) > 2 and word[0] == "-" and set(word[1:]) <= _FLAGS:
            rest.extendleft(f"-{letter}" for letter in reversed(word[1:]))
        elif word.startswith("--") or (len(word) == 2 and word[0] == "-" and word.isascii()):
            options.append(word)  # no such option, and it is said so
        elif word[:1] == "-" and f"-{name}" in takes_value:
            fail(f"-{name} is the option; to leave out pictures that show it: --not {word[1:]}")
        else:
            words.append(word)
    return options, words


# --- texts and pictures


def asked(
    words: Sequence[str],
    *,
    images: Sequence[str],
    plus: Sequence[str],
    minus: Sequence[str],
    where: Sequence[str],
    folders: Sequence[str],
    literal: bool,
) -> Query:
    """Return the terms and conditions of a question; none where nothing was given.

    Args:
        words: those of the command line, or one that is a whole question; blank: a mistake, also beside other
            parts (an empty variable in a script).
        folders: of --in; a picture is in one of them.
        literal: texts are taken as they stand.
    Raises:
        UsageError: something is blank or has no meaning.
    """
    from search import Query, Term, Text, all_of, clean_text, compose_query

    texts: list[Term] = []
    if words:
        clean_text(" ".join(words))
    if literal:
        texts = [Term(Text(clean_text(" ".join(words))))] if words else []
        texts += [Term(Text(clean_text(text))) for text in plus]
        texts += [Term(Text(clean_text(text)), excluded=True) for text in minus]
        words, plus, minus = (), (), ()
    if words or images or plus or minus or where:
        query = compose_query(
            list(words) if len(words) == 1 else [_quoted(word) for word in words],
            images=[_picture_and_weight(name) for name in images if not name.startswith("id:")],
            plus=[*plus, *(_id_and_weight(name) for name in images if name.startswith("id:"))],
            minus=minus,
            where=where,
            home=os.path.expanduser("~"),
        )
    else:
        query = Query()
    conditions = [one for one in (query.where, _inside(folders)) if one is not None]
    return Query((*texts, *query.terms), where=_real(all_of(conditions)) if conditions else None)


def _quoted(word: str) -> str:
    """Return a word of several with the quotes that the shell took: +golden hour, camera:EOS R5."""
    if match := _PICTURE_WITH_BLANK.fullmatch(word):
        return f'{match[1]}image:"{match[2]}"'
    match = _QUOTED_ONCE.fullmatch(word)
    return f'{match[1]}"{match[2]}"' if match and match[1] else word


def _picture_and_weight(name: str) -> str:
    weight = name.removeprefix("clipboard:")
    return f"clipboard::{weight}" if weight != name and weight and weight[0] != ":" else name


def _id_and_weight(name: str) -> str:
    number, colon, weight = name.removeprefix("id:").partition(":")
    return f"id:{number}^{weight}" if colon else name


def picture_part(source: str, crop: Crop | None = None) -> Picture | Indexed:
    """Return what a name on the command line stands for. Raises UsageError for an empty name."""
    from encoders import UsageError
    from search import Indexed, Picture

    if source.startswith("id:"):
        return Indexed(file_id(source, "id:"))
    if not source:
        raise UsageError("an empty name; give a picture file, an address, id:N, clipboard: or -")
    if source.startswith("file:///"):
        from urllib.parse import unquote

        source = unquote(source.removeprefix("file://"), errors="surrogateescape")
    return Picture(source, crop)


def file_id(text: str, option: str) -> int:
    """Return 37 of `37` and `id:37`."""
    from encoders import UsageError

    digits = text.removeprefix("id:")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise UsageError(
            f"{option} {text}: give the file_id of a hit, a number; pixseek search ... --json shows it"
        )
    return int(digits)


def file_ids(texts: list[str] | None, option: str) -> tuple[int, ...]:
    """Return each id once, in order."""
    return tuple(dict.fromkeys(file_id(text, option) for text in texts or ()))


def crop_box(text: str) -> Crop:
    """Return the four numbers of `--crop x,y,width,height`."""
    from encoders import UsageError

    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--crop {text}: give x,y,width,height in pixels (--crop 100,50,300,200), "
            "or in fractions (--crop 0.5,0,0.5,1)"
        ) from None
    return x, y, width, height


# --- conditions and order


def _inside(folders: Sequence[str]) -> Filter | None:
    from indexer import Or, Under

    # The shell leaves `~` alone after `--in=`.
    named = (os.path.abspath(os.path.expanduser(folder_bytes(name))) for name in folders)
    inside = tuple(dict.fromkeys(map(Under, named)))
    return Or(inside) if len(inside) > 1 else inside[0] if inside else None


def _real(where: Filter) -> Filter:
    """Return the filter with the real paths of its folders: from those the index was walked."""
    from indexer import And, Not, Or, Under

    match where:
        case Under(folder):
            return Under(os.path.realpath(folder))
        case Not(part):
            return Not(_real(part))
        case And(parts) | Or(parts):
            return type(where)(tuple(map(_real, parts)))
    return where


def order(
    k: int, min_probability: str | None, auto_cut: bool, sort: str, group: str | None, diverse: str | None
) -> dict[str, Any]:
    """Return the fields of a `Query` that say how many hits come, and in which order."""
    return {
        "k": k,
        "min_probability": None if min_probability is None else share(min_probability, "--min-probability"),
        "auto_cut": auto_cut,
        "sort": one_of(sort, "Sort", "--sort"),
        "group": one_of(group, "Grouping", "--group"),
        "diversity": 0.0 if diverse is None else share(diverse, "--diverse"),
    }


def share(text: str, option: str) -> float:
    """Return 0.5 of `0.5`, `50%` and `50 %`."""
    from encoders import UsageError

    digits = text.strip()
    percent = digits.endswith("%")
    try:
        number = float(digits.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UsageError(f"{option} {text}: give a number from 0 to 1, such as 0.5, or 0% to 100%")
    return number


def one_of(word: str | None, kind: str, option: str) -> Any:
    """Return the word. Raises UsageError when it is none of those that `search` knows by this name."""
    import search as room
    from encoders import UsageError

    known = get_args(getattr(room, kind))
    if word is not None and word not in known:
        raise UsageError(f"{option} {word}: it is one of {', '.join(known)}")
    return word
