"""The commands that make encoders, as `cli` does: parse, call, print."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from face import terminal
from face.choices import (
    AllowPickle,
    AsJson,
    CaptionsField,
    EncoderSpec,
    ImagesDir,
    Offline,
    encoder_cache,
    encoder_chooser,
)
from face.interrupts import heard_signals

if TYPE_CHECKING:
    from encoders import Encoder
    from training import EpochEnd, Finetuned, Towers, Trained

# --- pixseek train


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE.toml", help="What to train on what.", show_default=False)
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example", metavar="NAME", help="Print a recipe to start from: tiny-clip, coca-small, builtin.",
            show_default=False,
        ),
    ] = None,
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Go on although rates, losses or lengths in the recipe changed."),
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no line per epoch.")] = False,
    offline: Offline = False,
) -> None:  # fmt: skip
    """Train an encoder on your own pictures; run it again to go on where it stopped."""
    from encoders import UsageError
    from training import BuiltinRecipe, example_recipe, load_recipe, require_torch

    if example is not None:
        terminal.write(example_recipe(example).encode())
        return
    if recipe is None:
        raise UsageError("no recipe given; for one to start from: pixseek train --example tiny-clip")
    wanted = load_recipe(Path(recipe))
    require_torch()
    if isinstance(wanted, BuiltinRecipe):
        from training import train_recipe

        train_recipe(
            wanted.table, data=wanted.data, cache=wanted.cache, out=wanted.out,
            report=(lambda line: None) if quiet else terminal.note,
        )  # fmt: skip
        return
    from training import pretrain_model

    def epoch_done(end: EpochEnd) -> None:
        if not quiet:
            found = f", {_recall(end.recall)}" if end.recall else ""
            left = f", {terminal.clock(int(end.left_s * 1000))} left" if end.epoch < end.epochs else ""
            terminal.note(f"epoch {end.epoch} of {end.epochs}: loss {end.loss:.4f}{found}{left}")

    with heard_signals() as stopping, terminal.work_bar(quiet=quiet or as_json) as show:
        trained = pretrain_model(
            wanted,
            cache_dir=encoder_cache(),
            changed=changed,
            offline=offline,
            stop=stopping.event,
            report=show,
            on_epoch=epoch_done,
            tell=terminal.note,
        )
    if as_json:
        terminal.document(trained)
    if trained.stopped:
        terminal.note(
            f"stopped after {terminal.count(trained.steps, 'step')}; run the same command again to go on"
        )
        raise typer.Exit(stopping.exit_code)
    if not as_json:
        _say_trained(trained, quiet=quiet)


def _say_trained(trained: Trained, *, quiet: bool) -> None:
    """Print the spec of what was trained; and, unless `quiet`, what it reached and how to use it."""
    if not quiet:
        found = f", held-out {_recall(trained.recall)}" if trained.recall else ""
        terminal.note(
            f"{'trained already' if trained.already else 'trained'}: "
            f"{terminal.count(trained.pictures, 'picture')}, {terminal.count(trained.epochs, 'epoch')}, "
            f"{terminal.clock(int(trained.seconds * 1000))}{found}"
        )
        terminal.note(
            f"how it went: {trained.log}; use it with: pixseek index FOLDER --encoder {trained.spec}"
        )
    terminal.line(trained.spec)


def _recall(recall: dict[int, float]) -> str:
    """Return `recall@1 12.5, @5 40.0, @10 60.0`."""
    return "recall" + ", ".join(f"@{k} {value:.1f}" for k, value in recall.items())


# --- pixseek finetune


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
    field: CaptionsField = "captions",
    images: ImagesDir = None,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Adapt an encoder to your own captioned, keyworded or foldered pictures."""
    from encoders import EncoderError, load_encoder
    from training import finetune as adapt
    from training import open_towers

    cache = encoder_cache()
    base = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline)(None)

    def load(spec: str) -> Encoder:
        return load_encoder(spec, cache_dir=cache, allow_pickle=allow_pickle, offline=offline)

    def trainable(spec: str) -> Towers:
        return open_towers(spec, cache_dir=cache, allow_pickle=allow_pickle, offline=offline)

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


COMMANDS: tuple[Callable[..., Any], ...] = (train, finetune)
"""In the order in which `pixseek --help` lists them."""
