"""`pixseek concept`: names for what a few pictures have in common, to be asked for as `concept:our-dog`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from face import terminal
from face.choices import AllowPickle, AsJson, EncoderSpec, IndexDir, Offline, encoder_chooser, index_folder
from face.questions import STDIN_TWICE, picture_part

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from encoders import Encoder
    from indexer import Index

SOME_FAILED = 3
# Examples encoded at once.
_BATCH = 16

Name = Annotated[str, typer.Argument(metavar="NAME", help="Such as our-dog.", show_default=False)]

app = typer.Typer(
    help="Name what a few pictures have in common, and ask for it: concept:our-dog on a beach.",
    rich_markup_mode=None,
)


@app.command()
def add(
    name: Name,
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...",
            help="Examples: files, indexed or not, addresses, id:N of a hit, clipboard:, or - for stdin.",
            show_default=False,
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Forget the earlier examples of this name.")
    ] = False,
    index_dir: IndexDir = None,
    encoder: EncoderSpec = None,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Learn a concept from a few pictures of it."""
    import numpy as np

    from encoders import EncoderMismatchError, UsageError
    from indexer import Index, save_concept
    from search import concept_threshold, concept_vector

    name = _checked(name)
    folder = index_folder(index_dir)
    with Index.open(folder) as opened:
        space = opened.space
        if space is None:
            raise UsageError("the index is empty; fill it with: pixseek index FOLDER")
        if (known := opened.concept(name)) is not None and not replace:
            raise UsageError(
                f"there is a concept called {name}, from {terminal.count(known.examples, 'picture')}; "
                "choose another name, or give --replace and all of its examples"
            )
        chosen = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline)(space)
        if chosen.fingerprint != space.fingerprint:
            raise EncoderMismatchError(space.spec, space.fingerprint, chosen.spec, chosen.fingerprint)
        failed: list[bytes] = []
        examples = _embeddings(pictures, opened, chosen, offline=offline, failed=failed)
        if not examples:
            raise UsageError(f"none of the {len(pictures)} pictures can be read; nothing was learned")
        rows, sample = np.stack(examples), opened.sample()
    save_concept(folder, name, concept_vector(rows, sample), len(examples), concept_threshold(rows, sample))
    if as_json:
        terminal.document({"name": name, "examples": len(examples), "failed": failed})
    else:
        terminal.note(
            f"learned {name} from {terminal.count(len(examples), 'picture')}; "
            f"ask for it: pixseek search {_asked(name)}"
        )
    if failed:
        raise typer.Exit(SOME_FAILED)


def _embeddings(
    pictures: list[str], opened: Index, encoder: Encoder, *, offline: bool, failed: list[bytes]
) -> list[npt.NDArray[np.float32]]:
    """Return the (dim,) embedding of each picture; what cannot be read gets a line and a place in `failed`.

    Raises:
        UsageError: there is but one picture, and it cannot be read; or stdin is named twice.
    """
    from encoders import UsageError
    from search import Indexed, Picture, load_picture

    if pictures.count("-") > 1:
        raise UsageError(STDIN_TWICE)
    found: list[npt.NDArray[np.float32]] = []
    waiting = []
    for name in pictures:
        try:
            part = picture_part(name)
            if isinstance(part, Indexed):
                found.append(_indexed(part.file_id, opened))
                continue
            assert isinstance(part, Picture)
            assert isinstance(part.source, str)
            with terminal.libraries_muted():
                query = load_picture(
                    os.fsencode(part.source),
                    stdin=terminal.standard_input(),
                    min_side=encoder.image_size,
                    offline=offline,
                )
        except UsageError as error:
            if len(pictures) == 1:
                raise
            terminal.note(str(error))
            failed.append(os.fsencode(name))
            continue
        waiting.append(query.image)
        if len(waiting) == _BATCH:
            found += list(encoder.encode_images(waiting))
            waiting = []
    return found + (list(encoder.encode_images(waiting)) if waiting else [])


def _indexed(file_id: int, opened: Index) -> npt.NDArray[np.float32]:
    from encoders import UsageError

    frames = opened.whole_frames([file_id])
    vectors = opened.vectors_of(list(frames.values()))
    if file_id not in frames or frames[file_id] not in vectors:
        raise UsageError(f"id:{file_id}: no picture has this id; pixseek search ... --json shows file_id")
    return vectors[frames[file_id]]


def _checked(name: str) -> str:
    """Return the name in one form however it was typed.

    Raises:
        UsageError: a query could not name it.
    """
    import unicodedata

    from encoders import UsageError

    clean = unicodedata.normalize("NFC", name).strip()
    if not clean or len(clean) > 64 or not clean.isprintable():
        raise UsageError("a concept needs a name of 1 to 64 characters, such as our-dog")
    if clean[0] in "-+" or any(character in '"\\^:[]()' for character in clean):
        raise UsageError(f'{clean}: the name of a concept has none of " \\ ^ : [ ] ( ), and no sign in front')
    return clean


def _asked(name: str) -> str:
    return f"concept:{name}" if " " not in name else f"'concept:\"{name}\"'"


@app.command("list")
def list_concepts(index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """List the concepts of the index."""
    from indexer import Index

    with Index.open(index_folder(index_dir)) as opened:
        known = sorted(opened.concepts(), key=lambda one: one.name)
        warnings = list(opened.warnings)
    for warning in warnings:
        terminal.note(warning)
    if as_json:
        terminal.document(
            {"count": len(known), "concepts": [{"name": one.name, "examples": one.examples} for one in known]}
        )
        return
    for one in known:
        terminal.line(f"{terminal.visible(one.name)}\t{terminal.count(one.examples, 'picture')}")
    if not known:
        terminal.note("no concepts yet; make one with: pixseek concept add NAME PICTURE...")


@app.command()
def show(name: Name, index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """Show what is known of a concept."""
    from indexer import Index

    name = _checked(name)
    with Index.open(index_folder(index_dir)) as opened:
        known = opened.concept(name)
        space = opened.space
        if known is None or space is None:
            raise _unknown(name, [one.name for one in opened.concepts()])
    if as_json:
        terminal.document(
            {
                "name": known.name,
                "examples": known.examples,
                "encoder": space.spec,
                "dim": len(known.vector),
                "vector": [round(float(number), 6) for number in known.vector],
            }
        )
        return
    terminal.line(f"name      {terminal.visible(known.name)}")
    terminal.line(f"examples  {known.examples:,}")
    terminal.line(f"encoder   {terminal.visible(space.spec)}")
    terminal.note(f"ask for it: pixseek search {_asked(name)}")


@app.command()
def remove(name: Name, index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """Forget a concept; the pictures stay."""
    from indexer import Index, remove_concept

    name = _checked(name)
    folder: Path = index_folder(index_dir)
    if not remove_concept(folder, name):
        with Index.open(folder) as opened:
            raise _unknown(name, [one.name for one in opened.concepts()])
    if as_json:
        terminal.document({"removed": name})
    else:
        terminal.note(f"forgot {name}")


def _unknown(name: str, known: list[str]) -> Exception:
    from encoders import UsageError

    return UsageError(f"no concept called {name}; known: {', '.join(sorted(known)) or 'none yet'}")
