"""`pixseek train` from recipe to search, in this process: importing torch takes seconds each time."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cli
from face import terminal
from tests.color import COLORS
from tests.conftest import Pixseek
from tests.training.squares import draw_squares, table, write_recipe

torch = pytest.importorskip("torch", reason="the [train] extra is not installed")
pytest.importorskip("open_clip", reason="the [clip] extra is not installed")

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Return a function that runs pixseek, checks its exit code, and returns (stdout, stderr)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIXSEEK_INDEX", str(tmp_path / "index"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: str | Path, exits: int = 0) -> tuple[str, str]:
        capfd.readouterr()
        code = cli._run([str(argument) for argument in arguments], debug=False)
        out, err = capfd.readouterr()
        assert code == exits, err
        assert "Traceback" not in err
        return out, err

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield call
    torch.set_num_threads(before)


def test_squares_are_learned_and_found_by_their_colour_after_an_interruption(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, held = draw_squares(tmp_path / "photos"), draw_squares(tmp_path / "held", each=1, seed=9)
    more: dict[str, Any] = {"epochs": 12, "held_out": {"source": "held"}, "checkpoint_every": 1000}
    recipe = write_recipe(tmp_path / "r.toml", table(Path("photos"), Path("my-clip"), **more))
    assert held.is_dir()

    @contextmanager
    def terminated_at_step_7(*, quiet: bool) -> Iterator[Callable[[Any], None]]:
        def show(stage: Any) -> None:
            if stage.what == "training" and stage.done == 7:
                os.kill(os.getpid(), signal.SIGTERM)

        yield show

    with monkeypatch.context() as patch:
        patch.setattr(terminal, "work_bar", terminated_at_step_7)
        out, err = run("train", recipe, exits=143)
    assert out == ""
    assert "epoch 1 of 12: loss" in err
    assert "run the same command again to go on" in err

    out, err = run("train", recipe)
    spec = out.strip()
    assert spec == f"local-dir:{tmp_path / 'my-clip'}"
    assert "epoch 1 of 12" not in err
    assert "epoch 12 of 12: loss" in err
    assert f"pixseek index FOLDER --encoder {spec}" in err
    trained = json.loads(run("train", recipe, "--json")[0])
    assert (trained["already"], trained["pictures"], trained["held_out"]) == (True, 40, 8)
    assert trained["recall"]["1"] >= 75  # by chance 12.5

    run("index", photos, "--encoder", spec)
    for color in COLORS:
        hits = json.loads(run("search", f"a {color} square", "-k", "3", "--json")[0])["hits"]
        assert [Path(hit["path"]).name.partition("-")[0] for hit in hits].count(color) >= 2, color


def test_a_mistake_ends_with_one_line_and_its_exit_code(tmp_path: Path, pixseek: Pixseek) -> None:
    recipe = write_recipe(tmp_path / "r.toml", table(tmp_path, tmp_path / "out", epoch=3))
    said = pixseek("train", recipe, exits=2).stderr.decode()
    assert said == f"pixseek: {recipe}: epoch is not a key; did you mean epochs?\n"
    assert b"no recipe given" in pixseek("train", exits=2).stderr


def test_no_captions_and_a_checkpoint_of_another_recipe_have_their_exit_codes(
    tmp_path: Path, run: Run
) -> None:
    data = draw_squares(tmp_path / "data", each=1)
    recipe = write_recipe(tmp_path / "r.toml", table(data, tmp_path / "out", epochs=1))
    run("train", recipe, "--quiet")
    write_recipe(recipe, table(data, tmp_path / "out", epochs=1, seed=3))
    err = run("train", recipe, exits=12)[1]
    assert err.count("\n") == 1
    assert "seed (was 0, is 3)" in err
    for file in data.glob("*.txt"):
        file.unlink()
    write_recipe(recipe, table(data, tmp_path / "elsewhere"))
    err = run("train", recipe, exits=2)[1]
    assert err.count("\n") == 1
    assert "no captions" in err


def test_an_example_is_printed_as_it_is(pixseek: Pixseek) -> None:
    printed = pixseek("train", "--example", "tiny-clip").stdout.decode()
    assert tomllib.loads(printed)["kind"] == "open_clip"
    assert printed.startswith("# ")
    assert b"there are builtin, coca-small, tiny-clip" in pixseek("train", "--example", "x", exits=2).stderr
