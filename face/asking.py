"""The commands that ask: `search` by words, pictures and conditions, `similar` by pictures."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from face import terminal
from face.answers import chosen_form
from face.choices import (
    AllowPickle,
    AsCsv,
    AsJson,
    AsJsonl,
    AutoCut,
    ContactSheet,
    Copy,
    Diverse,
    EncoderSpec,
    Exact,
    ExportTo,
    Force,
    GroupBy,
    IndexDir,
    InFolder,
    Limit,
    MinProbability,
    Offline,
    OpenThem,
    PathsOnly,
    Preview,
    Print0,
    SortBy,
    Symlink,
    Where,
    encoder_cache,
    encoder_chooser,
    index_folder,
    remembers_questions,
)
from face.delivery import Delivery
from face.questions import (
    STDIN_TWICE,
    asked,
    crop_box,
    file_ids,
    one_of,
    order,
    picture_part,
)

if TYPE_CHECKING:
    from encoders import Encoder
    from indexer import Index
    from search import Crop, Query

# Bytes of a question on stdin: many times what any encoder reads, and an end to `yes |`.
_MAX_STDIN = 1024 * 1024
_EXAMPLES = (
    'nothing is asked; say what the picture shows: pixseek search "a dog on a beach", pixseek search '
    "taken:2023 rating:4.., pixseek search --image photo.jpg --not people"
)


# --- pixseek search


def search(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help='What the picture shows: beach +"golden hour" -people taken:2023; - reads stdin.',
            show_default=False,
        ),
    ] = None,
    k: Limit = 10,
    exact: Exact = False,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="PICTURE[:WEIGHT]",
            help="Look like this one, too: a file, an address, id:N, clipboard: or -.",
            show_default=False,
        ),
    ] = None,
    plus: Annotated[
        list[str] | None,
        typer.Option("--plus", metavar="TEXT[^WEIGHT]", help="Show this, too.", show_default=False),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="TEXT", help="Leave out pictures that show this.", show_default=False),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            "--like", metavar="ID", help="More like this hit (file_id in --json).", show_default=False
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option("--unlike", metavar="ID", help="Less like this hit.", show_default=False),
    ] = None,
    where: Where = None,
    folders: InFolder = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            "--fusion",
            metavar="early|late|hybrid",
            help="How several parts become one ranking.",
            show_default=False,
        ),
    ] = None,
    min_probability: MinProbability = None,
    auto_cut: AutoCut = False,
    sort: SortBy = "score",
    group: GroupBy = None,
    diverse: Diverse = None,
    literal: Annotated[
        bool, typer.Option("--literal", help="Take texts as they stand: no signs, no filters in them.")
    ] = False,
    index_dir: IndexDir = None,
    encoder: EncoderSpec = None,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    as_csv: AsCsv = False,
    print0: Print0 = False,
    paths_only: PathsOnly = False,
    preview: Preview = False,
    sheet: ContactSheet = None,
    force: Force = False,
    export_to: ExportTo = None,
    copy: Copy = False,
    symlink: Symlink = False,
    open_them: OpenThem = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Find pictures by words, pictures and conditions.

    pixseek search a dog on a beach -people taken:2023-06..2023-08
    """
    from encoders import UsageError
    from search import print_query

    delivery = Delivery.asked(
        form=chosen_form(
            paths_only=paths_only, print0=print0, as_json=as_json, as_jsonl=as_jsonl, as_csv=as_csv
        ),
        preview=preview,
        sheet=sheet,
        force=force,
        folder=export_to,
        copy=copy,
        symlink=symlink,
        open_them=open_them,
    )
    if text == ["-"] and "-" in (images or ()):
        raise UsageError(STDIN_TWICE)
    query = asked(
        _typed(text),
        images=images or (),
        plus=plus or (),
        minus=without or (),
        where=where or (),
        folders=folders or (),
        literal=literal,
    )
    query = dataclasses.replace(
        query,
        like=file_ids(like, "--like"),
        unlike=file_ids(unlike, "--unlike"),
        fusion=one_of(fusion, "Fusion", "--fusion"),
        **order(k, min_probability, auto_cut, sort, group, diverse),
    )
    if not (query.terms or query.where or query.like or query.unlike):
        raise UsageError(_EXAMPLES)
    _answer(
        query,
        delivery,
        question=print_query(query),
        index_dir=index_dir,
        spec=encoder,
        allow_pickle=allow_pickle,
        offline=offline,
        exact=exact,
    )


def _typed(words: list[str] | None) -> list[str]:
    """Return the words of the question, in UTF-8 whatever the locale; `-` alone is what stands on stdin."""
    if words == ["-"]:
        file = terminal.standard_input()
        return [file.read(_MAX_STDIN).decode("utf-8", "replace") if file else ""]
    return [
        word.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for word in words or ()
    ]


# --- pixseek similar


def similar(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...",
            help="Files, addresses, id:N of a hit, clipboard:, or - for stdin.",
            show_default=False,
        ),
    ],
    k: Limit = 10,
    exact: Exact = False,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop",
            metavar="X,Y,W,H",
            help="Only this part of the picture: pixels, or fractions up to 1.",
            show_default=False,
        ),
    ] = None,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Leave out the pictures themselves.")
    ] = False,
    where: Where = None,
    folders: InFolder = None,
    min_probability: MinProbability = None,
    auto_cut: AutoCut = False,
    sort: SortBy = "score",
    group: GroupBy = None,
    diverse: Diverse = None,
    index_dir: IndexDir = None,
    encoder: EncoderSpec = None,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    as_csv: AsCsv = False,
    print0: Print0 = False,
    paths_only: PathsOnly = False,
    preview: Preview = False,
    sheet: ContactSheet = None,
    force: Force = False,
    export_to: ExportTo = None,
    copy: Copy = False,
    symlink: Symlink = False,
    open_them: OpenThem = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Find pictures that look like another one, like a part of it, or like several."""
    from encoders import UsageError
    from search import Query, Term

    delivery = Delivery.asked(
        form=chosen_form(
            paths_only=paths_only, print0=print0, as_json=as_json, as_jsonl=as_jsonl, as_csv=as_csv
        ),
        preview=preview,
        sheet=sheet,
        force=force,
        folder=export_to,
        copy=copy,
        symlink=symlink,
        open_them=open_them,
    )
    if crop is not None and len(pictures) > 1:
        raise UsageError(f"--crop is of one picture, and there are {len(pictures)}; name one")
    box = None if crop is None else crop_box(crop)
    terms = tuple(Term(picture_part(name, box)) for name in pictures)
    query = Query(
        terms,
        where=asked(
            (), images=(), plus=(), minus=(), where=where or (), folders=folders or (), literal=False
        ).where,
        **order(k, min_probability, auto_cut, sort, group, diverse),
    )
    _answer(
        query,
        delivery,
        question=" ".join(pictures),
        index_dir=index_dir,
        spec=encoder,
        allow_pickle=allow_pickle,
        offline=offline,
        exclude_self=exclude_self,
        crop=box,
        exact=exact,
    )


# --- what both share


def _answer(
    query: Query,
    delivery: Delivery,
    *,
    question: str,
    index_dir: Path | None,
    spec: str | None,
    allow_pickle: bool,
    offline: bool,
    exclude_self: bool = False,
    crop: Crop | None = None,
    exact: bool = False,
) -> None:
    """Open the index, ask, and deliver the answer."""
    from face.headstart import begun_encoder
    from face.resident.kept import keeps, opened_index, searcher_of
    from search import Results, list_files

    folder = index_folder(index_dir)
    begun = None if keeps() else begun_encoder(folder, spec, query, encoder_cache())
    with opened_index(folder, remember=remembers_questions(), exact=exact) as opened:
        delivery.prepare(opened)
        if opened.space is None:
            results = Results(query, (), searched=0, left=0)
        elif not (spec or query.terms or query.like or query.unlike):
            results = list_files(opened, query)  # conditions alone: no encoder
        else:
            choose = encoder_chooser(spec, allow_pickle=allow_pickle, offline=offline, begun=begun)
            searcher, chosen = searcher_of(opened, choose(opened.space), encoder_cache())
            ready = _loaded(
                query, opened, searcher.image_size, offline=offline, exclude_self=exclude_self, crop=crop
            )
            results = searcher.search(ready)
            for line in _cut_sentences(query, chosen):
                terminal.note(line)
        delivery.deliver(results, opened, question)


def _loaded(
    query: Query, opened: Index, min_side: int, *, offline: bool, exclude_self: bool, crop: Crop | None
) -> Query:
    """Return the query with its pictures read, and without them among the answers if that is wished.

    Raises:
        UsageError: a picture cannot be read, or stdin is named twice.
    """
    from encoders import UsageError
    from search import Indexed, Picture, load_picture

    pictures = [term.part.source for term in query.terms if isinstance(term.part, Picture)]
    if pictures.count("-") > 1:
        raise UsageError(STDIN_TWICE)
    terms, own = [], set(query.exclude)
    for term in query.terms:
        part = term.part
        if isinstance(part, Indexed) and (crop or exclude_self):
            path = _path_of(part.file_id, opened)
            own.add(path)
            part = Picture(os.fsdecode(path), crop) if crop else part
        if isinstance(part, Picture) and isinstance(part.source, str):
            with terminal.libraries_muted():
                loaded = load_picture(
                    os.fsencode(part.source),
                    stdin=terminal.standard_input(),
                    min_side=min_side,
                    offline=offline,
                    crop=part.crop,
                )
            part = Picture(loaded.image)
            if loaded.path:
                own.add(loaded.path)
        terms.append(dataclasses.replace(term, part=part))
    exclude = frozenset(own) if exclude_self else query.exclude
    return dataclasses.replace(query, terms=tuple(terms), exclude=exclude)


def _path_of(file_id: int, opened: Index) -> bytes:
    """Return where a picture of the index lies. Raises UsageError when there is none with this id."""
    from encoders import UsageError

    frames = opened.whole_frames([file_id])
    for records in opened.frames(list(frames.values())).values():
        for record in records:
            if record.file_id == file_id:
                return record.path
    raise UsageError(
        f"no picture has the id {file_id}; pixseek search ... --json shows the file_id of each hit"
    )


def _cut_sentences(query: Query, encoder: Encoder) -> list[str]:
    """Return a line for each text that is longer than the encoder reads."""
    from search import Text, words_read

    lines = []
    for term in query.terms:
        if isinstance(term.part, Text) and (read := words_read(term.part.words, encoder)) is not None:
            lines.append(
                f"the sentence is longer than {encoder.spec} reads: truncated to the context length, "
                f"its first {terminal.count(read, 'word')}"
            )
    return lines
