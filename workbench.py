"""The commands that make and judge encoders: parse, call, print, as in `cli`, which registers them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import terminal
from choices import AsJson, Offline, encoder_cache
from interrupts import heard_signals

if TYPE_CHECKING:
    from training import EpochEnd, Trained


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE.toml", help="What to train on what.", show_default=False)
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example", metavar="NAME", help="Print a recipe to start from: tiny-clip, coca-small.",
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
    if isinstance(wanted, BuiltinRecipe):
        from training import train_recipe

        train_recipe(
            wanted.table, data=wanted.data, cache=wanted.cache, out=wanted.out,
            report=(lambda line: None) if quiet else terminal.note,
        )  # fmt: skip
        return
    require_torch()
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


COMMANDS: tuple[Callable[..., Any], ...] = (train,)
"""In the order in which `pixseek --help` lists them."""
