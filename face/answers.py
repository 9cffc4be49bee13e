"""How the hits of a question are given: a table for people, lines, JSON, JSON lines, CSV, exact names.

One of them at a time, on stdout. What a person should know beside them goes to stderr. A name is escaped
wherever it could steer a terminal or break a line; `--json` and `-0` carry it exactly.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from face import terminal

if TYPE_CHECKING:
    from indexer import Filter, Index
    from search import Hit, Query, Results, Term

Form: TypeAlias = Literal["lines", "paths", "print0", "json", "jsonl", "csv"]

CSV_COLUMNS = (
    "rank", "score", "probability", "path", "path_b64", "timestamp_ms", "region", "width", "height", "format",
    "size_bytes", "taken_at", "camera", "lens", "iso", "latitude", "longitude", "caption", "keywords",
    "rating", "status", "file_id", "frame_id", "more",
)  # fmt: skip
# Spreadsheets take a cell that begins so for a formula, and these come from inside the pictures.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Conditions that are tried one by one to say which one leaves nothing; each is a query or two.
_TRIED = 12
# Parts of a question that are named in a line about it.
_NAMED = 5
_WRITTEN_BY_STRANGERS = frozenset({"camera", "lens", "caption", "keywords"})


def chosen_form(*, paths_only: bool, print0: bool, as_json: bool, as_jsonl: bool, as_csv: bool) -> Form:
    """Return how to answer. Raises UsageError when two ways were asked for."""
    asked: dict[str, Form] = {}
    if as_json:
        asked["--json"] = "json"
    if as_jsonl:
        asked["--jsonl"] = "jsonl"
    if as_csv:
        asked["--csv"] = "csv"
    if print0:
        asked["-0"] = "print0"
    if paths_only and not print0:  # -0 prints paths only, in any case
        asked["--paths-only"] = "paths"
    if len(asked) > 1:
        from encoders import UsageError

        raise UsageError(f"{' and '.join(asked)} are different forms of the same answer; give one of them")
    return next(iter(asked.values()), "lines")


def give(
    results: Results, form: Form, *, question: str, encoder: str | None, draw: Callable[[Hit], bytes] | None
) -> None:
    """Write the answer to stdout.

    Args:
        question: what was asked, as one string.
        draw: what shows a hit below its line, for `lines` and `paths`.
    """
    if form == "json":
        terminal.document(
            {
                "query": question,
                "encoder": encoder,
                "count": len(results.hits),
                "searched": results.searched,
                "left": results.left,
                "excluded": results.excluded,
                "cut": results.cut,
                "best_probability": results.best_probability,
                "notes": results.notes,
                "hits": results.hits,
            }
        )
    elif form == "jsonl":
        for hit in results.hits:
            terminal.write(json.dumps(terminal.jsonable(hit), allow_nan=False).encode() + b"\n")
    elif form == "csv":
        for row in csv_rows(results.hits):
            terminal.write(row)
    elif form == "print0":
        for hit in results.hits:
            terminal.write(hit.path + b"\0")
    else:
        ranked = bool(results.query.terms or results.query.like or results.query.unlike)
        lines = hit_lines(results.hits, paths_only=form == "paths", ranked=ranked)
        for hit, output in zip(results.hits, lines, strict=True):
            terminal.write(output)
            if draw:
                terminal.write(draw(hit))


def hit_lines(hits: Sequence[Hit], *, paths_only: bool, ranked: bool = True) -> Iterator[bytes]:
    """Return one line per hit.

    On a terminal: rank, score, probability and path in columns, names escaped, and how many stand behind a
    grouped hit; the day instead of the scores where nothing `ranked` them. In a pipe: `score<TAB>path`, or
    the path alone, controls escaped.
    """
    if not sys.stdout.isatty():
        for hit in hits:
            score = b"" if paths_only else f"{hit.score:.4f}\t".encode()
            yield score + terminal.one_line(hit.path) + b"\n"
        return
    sure = any(hit.probability is not None for hit in hits)
    for hit in hits:
        name = terminal.visible(hit.path)
        if hit.timestamp_ms is not None:
            name += f"  at {terminal.clock(hit.timestamp_ms)}"
        if hit.group:
            name += f"  +{len(hit.group):,} more"
        if not paths_only:
            shown = f"{hit.score:6.3f}" if ranked else f"{(hit.taken_at or '')[:10]:10}"
            shown += f"  {percent(hit.probability):>5}" if sure else ""
            name = f"{hit.rank:4d}  {shown}  {name}"
        yield name.encode() + b"\n"


def percent(share: float | None) -> str:
    """Return `87 %`; `<1 %` and `>99 %` where rounding would claim certainty; nothing for None."""
    if share is None:
        return ""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def csv_rows(hits: Iterable[Hit]) -> Iterator[bytes]:
    """Return a header and a row per hit (RFC 4180, UTF-8).

    `path` is exact where it is UTF-8; elsewhere its bad bytes are written `\\xff` and `path_b64` is exact.
    Words from inside a picture that a spreadsheet would take for a formula get an apostrophe in front; a
    path begins with a slash and needs none. `more` is how many hits stand behind a grouped one.
    """
    steers = sys.stdout.isatty()
    yield _csv_row(CSV_COLUMNS, steers)
    for hit in hits:
        yield _csv_row([_cell(hit, column) for column in CSV_COLUMNS], steers)


def _cell(hit: Hit, column: str) -> str:
    if column == "more":
        return str(len(hit.group))
    if column == "path_b64":
        return "" if terminal.is_utf8(hit.path) else base64.b64encode(hit.path).decode("ascii")
    value: Any = getattr(hit, column)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if column == "keywords":
        value = "; ".join(value)
    elif isinstance(value, tuple):
        value = " ".join(f"{number:g}" for number in value)
    text = str(value)
    if column in _WRITTEN_BY_STRANGERS and text.startswith(_FORMULA):
        text = "'" + text
    return text.encode("utf-8", "replace").decode("utf-8")


def _csv_row(cells: Iterable[str], steers: bool) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow(
        [terminal.visible(cell) for cell in cells] if steers else cells
    )
    return file.getvalue().encode()


# --- why there is nothing


def reasons(results: Results, opened: Index) -> list[str]:
    """Return why nothing was found, a line each and the next thing to type; nothing where there are hits."""
    if results.hits:
        return []
    query = results.query
    if not results.searched:
        return ["the index is empty; fill it with: pixseek index FOLDER"]
    if query.where is not None and not results.left:
        return [_filtered_out(query.where, opened, results.searched)]
    lines = []
    if results.excluded:
        names = _joined([term for term in query.terms if term.excluded])
        every = "" if results.cut else "all "
        lines.append(f"{names} removed {every}{terminal.count(results.excluded, 'picture')}")
    if results.cut:
        place = "nothing in this library" if query.where is None else f"none of the {results.left:,} left"
        asked = _asked_for(query)
        if query.min_probability:
            lines.append(f"{place} matches {asked} with {percent(query.min_probability)} or more")
        else:
            sure = percent(results.best_probability)
            lines.append(
                f"{place} probably matches {asked}{f' (best: {sure})' if sure else ''}; "
                "to see the nearest anyway: --min-probability 0"
            )
    return lines or ["nothing else there"]


def _filtered_out(where: Filter, opened: Index, searched: int) -> str:
    """Return which condition left nothing: alone, or the one without which there would be pictures."""
    from indexer import And
    from search import print_filter

    text = print_filter(where)
    line = f"{text} left 0 of {terminal.count(searched, 'picture')}"
    if not isinstance(where, And) or len(where.parts) > _TRIED:
        return line
    for part in where.parts:
        if not opened.select(part).files:
            return f"{line}: there is none with {print_filter(part)}"
    without = []
    for part in where.parts:
        rest = tuple(other for other in where.parts if other is not part)
        files = opened.select(And(rest) if len(rest) > 1 else rest[0]).files
        if files:
            without.append(f"without {print_filter(part)} there would be {files:,}")
    return f"{line}; {', '.join(without)}" if without else line


def _asked_for(query: Query) -> str:
    texts = [term for term in query.terms if not term.excluded]
    return _joined(texts) if texts else "this"


def _joined(terms: Sequence[Term]) -> str:
    names = [_named(term) for term in terms[:_NAMED]]
    if len(terms) > _NAMED:
        names.append(f"{len(terms) - _NAMED:,} more")
    return " and ".join(names)


def _named(term: Term) -> str:
    from search import Concept, Indexed, Text

    part = term.part
    if isinstance(part, Text):
        words = part.words if len(part.words) <= 60 else part.words[:59] + "\u2026"
        return f"-{words}" if term.excluded else f"'{words}'"
    sign = "-" if term.excluded else ""
    if isinstance(part, Indexed):
        return f"{sign}id:{part.file_id}"
    return f"{sign}concept:{part.name}" if isinstance(part, Concept) else f"{sign}the picture"
