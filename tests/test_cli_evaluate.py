"""pixseek evaluate: a table for people, a document for programs, one line for mistakes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import typer

from face import workbench
from tests.color import COLORS, draw
from tests.conftest import Pixseek
from tests.training.writing import picture_bytes, write_tar


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    members = {}
    for color in COLORS:
        members[f"{color}.png"] = picture_bytes(color)
        members[f"{color}.json"] = {"captions": [f"a {color} thing"], "label": color}
    return write_tar(tmp_path_factory.mktemp("sets") / "set.tar", members)


def test_a_table_for_people(pixseek: Pixseek, tar: Path) -> None:
    lines = pixseek("evaluate", tar, "--zero-shot").stdout.decode().splitlines()
    assert lines[0].startswith(f"color on {tar}: 8 pictures, 8 sentences, ")
    assert lines[1].split() == ["metric", "value", "95", "%", "interval", "n"]
    assert lines[2].split() == ["text-to-image", "recall@1", "100.0", "%", "100.0", "to", "100.0", "8"]
    assert lines[8].split()[0] == "image-to-text"
    assert lines[14].split()[:5] == ["zero-shot", "top-1", "accuracy", "100.0", "%"]
    assert lines[20].startswith("classes, lowest F1 first (8 of 8)")
    assert len(lines) == 29


def test_one_document_for_programs(pixseek: Pixseek, tar: Path) -> None:
    done = pixseek("evaluate", tar, "--json", "--limit", "4", "--seed", "3")
    document = json.loads(done.stdout)
    assert document["pictures"] == document["sentences"] == 4
    assert (document["encoder"], document["seed"], document["classes"]) == ("color", 3, [])
    first = document["measures"][0]
    assert (first["task"], first["metric"], first["value"], first["unit"], first["n"]) == (
        "text-to-image", "recall@1", 100.0, "%", 4,
    )  # fmt: skip


def test_an_index_is_judged(indexed: Pixseek) -> None:
    (indexed.home.parent / "photos" / "red.txt").write_text("something red")
    document = json.loads(indexed("evaluate", "--json", "--index", indexed.index).stdout)
    values = {(one["task"], one["metric"]): one["value"] for one in document["measures"]}
    assert values["nearest, by picture", "recall@1"] == 100
    assert values["nearest, by text", "recall@1"] == 100
    assert values["text-to-image", "recall@1"] == 100


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["cut.tar"], "cut.tar is cut short after 2 whole samples, the last 'green'"),
        (["one"], "one class only, 'red'"),
        (["cut.tar", "--index", "i"], "give a data set or --index, not both"),
        (["--captions"], "an index is judged by its own words"),
    ],
)
def test_mistakes_end_in_one_line(pixseek: Pixseek, tar: Path, arguments: list[str], why: str) -> None:
    (pixseek.home / "cut.tar").write_bytes(tar.read_bytes()[:5000])
    draw(pixseek.home / "one" / "red" / "1.png")
    done = pixseek("evaluate", *arguments, exits=2)
    (line,) = done.stderr.decode().splitlines()
    assert why in line
    assert not done.stdout


def test_a_signal_stops_after_the_present_batch(capfd: pytest.CaptureFixture[str]) -> None:
    seen = []

    def work() -> None:
        with workbench._watched(quiet=True) as watch:
            os.kill(os.getpid(), signal.SIGTERM)
            for batch in range(200):
                time.sleep(0.02)  # a listener of its own hears the signal
                seen.append(batch)
                watch(None)

    with pytest.raises(typer.Exit) as stopped:
        work()
    assert stopped.value.exit_code == 143
    assert len(seen) < 200
    assert capfd.readouterr().err == "pixseek: stopped; nothing was written, the same command begins anew\n"
