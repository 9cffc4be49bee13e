"""encoders <- indexer <- search <- training <- face <- cli, and rooms are entered by their doors only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["encoders", "indexer", "search", "training"]
# What speaks with a person: the only place that prints. `cli` and its hands.
FACE = ["face", "cli"]
SOURCES = [path for room in [*ROOMS, "face"] for path in sorted((ROOT / room).rglob("*.py"))] + [
    ROOT / "cli.py"
]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_and_doors(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for line, name in imports(path):
        where = f"{path.relative_to(ROOT)}:{line}: import of {name}"
        assert not name.startswith("."), f"{where}: imports are absolute"
        room, _, inside = name.partition(".")
        if room in ROOMS and room != here:
            assert not inside, f"{where}: enter {room} by its door"
            if here in ROOMS:
                assert ROOMS.index(room) < ROOMS.index(here), f"{where}: the arrow runs the other way"
        if room in FACE:
            assert here in FACE, f"{where}: nothing below the command line knows it"
            assert room != "cli", f"{where}: the arrow runs the other way"
        assert room != "tests", f"{where}: the code does not know its tests"
        assert room != "click", f"{where}: typer carries its own"


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ROOMS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_rooms_do_not_print_exit_or_read_the_environment(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit", "input"), (
                f"{path}:{node.lineno}: {node.func.id}"
            )
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted = f"{node.value.id}.{node.attr}"
            assert dotted not in ("sys.exit", "os.environ", "os.getenv", "sys.argv"), (
                f"{path}:{node.lineno}: {dotted}"
            )


def test_every_module_is_in_the_packaging() -> None:
    import tomllib

    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(setuptools["py-modules"]) == sorted(path.stem for path in ROOT.glob("*.py"))
    packages = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for room in [*ROOMS, "face"]
        for path in (ROOT / room).rglob("*.py")
    }
    assert packages == set(setuptools["packages"])
