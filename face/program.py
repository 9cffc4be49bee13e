"""The commands of pixseek as one program: which there are, and where they live.

Only the module of the command that was typed is imported, and only its options are made: those of all of them
take longer than a question does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main

from face import terminal

HOMES = {
    "face.indexing": ("index",),
    "face.asking": ("search", "similar"),
    "face.upkeep": ("status", "failures", "check", "repair", "prune", "backup", "encoders"),
    "face.cleaning": ("duplicates",),
    "face.workbench": ("caption", "evaluate"),
    "face.workshop": ("train", "finetune"),
    "face.serving": ("serve",),
}
"""Commands by module, in the order of `pixseek --help`."""
GROUPS = {"concept": "face.concepts"}
"""Commands that have commands of their own."""


def command(arguments: Sequence[str]) -> Any:
    """Return what runs a command line: `command(words)(args=words, standalone_mode=False)`.

    Made once per process and command: a resident worker runs one many times.
    """
    return _made(arguments[0] if arguments else "")


@cache
def _made(first: str) -> Any:
    return typer.main.get_command(program([first]))


def program(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return pixseek with the command that the arguments begin with; with all where they name none."""
    app = typer.Typer(
        name="pixseek",
        help="Find any picture by what it shows.\n\n"
        "pixseek index FOLDER, then pixseek search 'a dog on a beach' or pixseek similar photo.jpg.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_options)
    asked = arguments[0] if arguments else ""
    known = {*GROUPS, *(name for names in HOMES.values() for name in names)}
    for module, names in HOMES.items():
        for name in names:
            if name == asked or asked not in known:
                _add(app, module, name)
    for name, module in GROUPS.items():
        if name == asked or asked not in known:
            app.add_typer(import_module(module).app, name=name)
    return app


def _add(app: typer.Typer, module: str, name: str) -> None:
    from face.questions import SearchCommand

    app.command(cls=SearchCommand if name == "search" else None)(getattr(import_module(module), name))


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.line(f"pixseek {version('pixseek')}")
        except PackageNotFoundError:
            terminal.line("pixseek (not installed)")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong (any position).")
    ] = False,
) -> None:
    pass
