"""The README tells the truth: its commands and options exist, none is missing, its exit codes are ours."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from face.program import program

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
APP = program()
GROUPS = {
    group.name: {
        command.name or command.callback.__name__
        for command in group.typer_instance.registered_commands
        if command.callback
    }
    for group in APP.registered_groups
    if group.name and group.typer_instance
}
COMMANDS = sorted(
    {command.name or command.callback.__name__ for command in APP.registered_commands if command.callback}
    | set(GROUPS)
)


def shell_lines() -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL)
    lines = [
        line.removeprefix("$ ").partition("  #")[0].strip() for block in blocks for line in block.splitlines()
    ]
    return [
        part.strip() for line in lines for part in line.split(" | ") if part.strip().startswith("pixseek ")
    ]


def help_of(command: str) -> str:
    call = [sys.executable, str(ROOT / "cli.py"), *command.split(), "--help"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


def test_every_command_is_in_the_readme() -> None:
    assert {line.split()[1] for line in shell_lines()} >= set(COMMANDS)


def test_every_command_and_option_in_the_readme_exists() -> None:
    assert shell_lines()
    helps: dict[str, str] = {}
    for line in shell_lines():
        words = shlex.split(line, comments=True)[1:]
        command = next((word for word in words if not word.startswith("-")), "")
        if command:
            assert command in COMMANDS, line
        if command in GROUPS:
            inner = next(word for word in words[words.index(command) + 1 :] if not word.startswith("-"))
            assert inner in GROUPS[command], line
            command += " " + inner
        text = helps.setdefault(command, help_of(command))
        for word in words:
            # Of `search`, -people is a word and no option.
            if re.match(r"--[a-z]|-[a-z0-9]$" if command == "search" else r"--?[a-z0-9]", word):
                word = word.partition("=")[0]
                assert re.search(rf"(^|[\s,]){re.escape(word)}\b", text, re.MULTILINE), f"{line}: {word}"


@pytest.mark.parametrize("target", ["demo", "test", "test-all", "lint"])
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(
        re.findall(
            r"\bmake ([a-z][a-z-]*)", "\n".join(re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL))
        )
    )
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_exit_codes_in_the_readme_are_ours() -> None:
    table = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")
    }
    ours = {
        0,
        *cli.EXIT_CODES.values(),
        cli.UNEXPECTED,
        cli.USAGE,
        cli.SOME_FAILED,
        cli.DAMAGED,
        cli.OUTPUT_FAILED,
    }
    assert table == ours | {129, 130, 143}
