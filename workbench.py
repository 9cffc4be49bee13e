"""The commands that make and judge encoders: parse, call, print, as in `cli`, which registers them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import terminal
from choices import AllowPickle, AsJson, EncoderSpec, Offline, encoder_cache, encoder_chooser

if TYPE_CHECKING:
    from encoders import Encoder
    from training.finetune import Finetuned


class Method(StrEnum):
    """How an encoder is adapted."""

    linear = "linear"
    lora = "lora"


def finetune(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Your pictures with words: a folder, WebDataset tar, COCO json, Flickr token file or csv.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Where the adapted encoder goes.", show_default=False),
    ],
    encoder: EncoderSpec = None,
    method: Annotated[
        Method,
        typer.Option(
            help="linear: seconds, any encoder. lora: minutes to hours, changes the towers, needs torch."
        ),
    ] = Method.linear,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes over the pictures at most (linear 100, lora 10).",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Of the changes: lower changes less (linear: full, lora 8).",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0.001, help="Of lora: changes count alpha / rank (16).", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the learning and the intervals.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Write the result even when it is worse on held-out pictures.")
    ] = False,
    field: Annotated[
        str, typer.Option("--captions-field", metavar="NAME", help="Where captions are: captions_zh for one.")
    ] = "captions",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the pictures of a table are.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Adapt an encoder to your own captioned, keyworded or foldered pictures."""
    from encoders import EncoderError, Trainable, load_encoder
    from training.finetune import finetune as adapt

    cache = encoder_cache()
    base = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline)(None)

    def load(spec: str) -> Encoder:
        return load_encoder(spec, cache_dir=cache, allow_pickle=allow_pickle, offline=offline)

    def trainable(spec: str) -> Trainable:
        return Trainable(spec, cache_dir=cache, allow_pickle=allow_pickle, offline=offline)

    with terminal.progress_bar(quiet=as_json) as show:
        found = adapt(
            source,
            out,
            encoder=base,
            load=load,
            trainable=trainable,
            method=method.value,
            epochs=epochs,
            rank=rank,
            alpha=alpha,
            seed=seed,
            force=force,
            field=field,
            images=images,
            cache_dir=cache,
            on_progress=show,
        )
    for line in found.notes:
        terminal.note(line)
    if as_json:
        terminal.document(found)
    else:
        _show_changes(found)
    if not found.written:
        raise EncoderError(found.why_not)
    moved = found.drift
    terminal.note(
        f"{'WARNING: ' if moved.large else ''}on {moved.queries} everyday questions: cosine "
        f"{moved.cosine:.3f} to before, {moved.kept:.0f} % of each one's 10 nearest kept"
        + ("; the more pictures of other kinds you search, the more that matters" if moved.large else "")
    )
    if found.changes_previous:
        terminal.note("an index made with the encoder that was in this folder must be made again")
    terminal.note(f"next: pixseek index ~/Pictures --encoder {shlex.quote(found.out)} --index NEW_FOLDER")


def _show_changes(found: Finetuned) -> None:
    """Print the numbers before and after, one row each."""
    data = found.data
    terminal.line(
        f"{terminal.visible(found.base)} adapted by {found.method} to {terminal.visible(data.source)}: "
        f"{data.words} of {terminal.count(data.pictures, 'picture')}, {data.texts:,} different; "
        f"{data.learned:,} to learn from, {data.stopping:,} to stop by, {data.held_out:,} held out"
    )
    against = [("before", found.changes)]
    if found.changes_previous:
        against.append(("in the folder", found.changes_previous))
    for name, changes in against:
        terminal.line("")
        terminal.line(f"{'held-out pictures, %':24} {name:>13} {'after':>7} {'change':>7}  95 % interval")
        for change in changes:
            terminal.line(
                f"{change.metric:24} {change.before:13.1f} {change.after:7.1f} {change.difference:+7.1f}  "
                f"{change.low:+.1f} to {change.high:+.1f}"
            )


COMMANDS: tuple[Callable[..., Any], ...] = (finetune,)
"""In the order in which `pixseek --help` lists them."""
