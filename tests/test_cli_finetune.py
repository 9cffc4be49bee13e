"""`pixseek finetune` as a person meets it: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.color import COLORS, draw
from tests.conftest import Pixseek


def titled(folder: Path, count: int = 4) -> Path:
    """Write pictures of eight colours in folders that call them by another colour's name."""
    names = list(COLORS)
    for number, color in enumerate(names):
        for mark in range(count):
            draw(folder / names[(number + 1) % 8] / f"{mark}.png", color, (48, 48), mark=mark + 1)
    return folder


def test_an_adapted_encoder_is_measured_written_and_indexed_with(pixseek: Pixseek, tmp_path: Path) -> None:
    pictures, out = titled(tmp_path / "p"), tmp_path / "my encoder"
    done = pixseek("finetune", pictures, "--encoder", "builtin", "--out", out, "--seed", "0")
    table, notes = done.stdout.decode(), done.stderr.decode()
    assert "labels of 32 pictures, 8 different" in table
    assert re.search(r"zero-shot accuracy +[\d.]+ +[\d.]+ +[+-][\d.]+ +[+-][\d.]+ to [+-][\d.]+", table)
    assert "everyday questions: cosine" in notes
    spec = f"local-dir:{out}"
    assert f"next: pixseek index ~/Pictures --encoder '{spec}' --index" in notes
    pixseek("index", pixseek.photos if pixseek.photos.exists() else pictures, "--encoder", spec)
    state = json.loads(pixseek("status", "--json").stdout)
    assert state["space"]["spec"] == spec
    # By relative path from another folder it is the same encoder.
    hits = json.loads(pixseek("search", "a photo of red", "--json", "-k", "4").stdout)
    assert hits["encoder"] == spec
    assert hits["count"] == 4
    assert sorted(path.name for path in out.iterdir()) == ["adapter.json", "adapter.npz"]


def test_json_is_one_document_also_when_the_result_is_refused(pixseek: Pixseek, tmp_path: Path) -> None:
    """Names that mean nothing: what is learned cannot hold on pictures that were not seen."""
    for number in range(24):
        draw(tmp_path / "p" / f"{number % 2}x" / f"{number}.png", "red", (48, 48), mark=number + 1)
    done = pixseek(
        "finetune", tmp_path / "p", "--encoder", "builtin", "--out", tmp_path / "out", "--json", exits=None
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["written"] else 12)
    assert found["written"] == (tmp_path / "out").exists()
    assert found["changes"][-1]["metric"] == "mean of these"
    if not found["written"]:
        assert found["why_not"] in done.stderr.decode()


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (lambda p: draw(p / "a" / "1.png"), (), "one class only"),
        (lambda p: [draw(p / c / "1.png", c) for c in COLORS], (), "20 are the least"),
        (
            lambda p: [draw(p / f"{i}.png", mark=i + 1) for i in range(30)],
            (),
            "no captions, keywords or labels",
        ),
        (lambda p: None, (), "no such file or folder"),
        (titled, ("--alpha", "3"), "--alpha belongs to --method lora"),
    ],
    ids=["one class", "too few", "no words", "nothing there", "alpha"],
)
def test_what_cannot_be_learned_from_is_one_line_and_exit_2(
    pixseek: Pixseek, tmp_path: Path, make: Any, options: tuple[str, ...], says: str
) -> None:
    make(tmp_path / "p")
    out = tmp_path / "out"
    done = pixseek("finetune", tmp_path / "p", "--encoder", "color", "--out", out, *options, exits=2)
    assert says in done.stderr.decode()
    assert done.stderr.decode().count("\n") == 1
    assert not done.stdout
    assert not out.exists()


def test_an_out_that_is_a_persons_own_folder_is_refused(pixseek: Pixseek, tmp_path: Path) -> None:
    pictures = titled(tmp_path / "p")
    done = pixseek("finetune", pictures, "--encoder", "color", "--out", pictures, "--force", exits=2)
    assert "name a new" in done.stderr.decode()
    assert len(list(pictures.rglob("*.png"))) == 32
