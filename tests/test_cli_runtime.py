"""`--runtime` and `pixseek encoders --benchmark` as a person meets them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cli
from tests.color import draw
from tests.encoders.conftest import Tiny, open_clip, tiny

__all__ = ["open_clip", "tiny"]  # fixtures


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs pixseek in this process with a cache and an index of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIXSEEK_INDEX", str(tmp_path / "index"))
    monkeypatch.setattr("encoders.trials.SECONDS", 0.01)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pixseek", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_the_table_of_runtimes(run: Any, tiny: Callable[..., Tiny]) -> None:
    spec = tiny("vit").spec
    code, out, err = run("encoders", "--benchmark", "--encoder", spec, "--offline")
    assert code == 0, err
    assert out.split("\n")[0].split() == [
        "runtime", "pictures/s", "cosine", "neighbours", "memory", "loads", "in",
    ]  # fmt: skip
    assert "*  onnx" in out
    assert "cuda: " in out
    code, out, _ = run("encoders", "--benchmark", "--encoder", spec, "--offline", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["encoder"] == spec
    assert found["runtime"] in found["agreeing"]
    assert {"runtime", "rate", "cosine", "overlap", "memory_bytes", "load_s", "why_not"} <= set(
        found["trials"][0]
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("encoders", "--benchmark", "--encoder", "builtin"), 2, "nothing to choose"),
        (("encoders", "--encoder", "builtin"), 2, "--benchmark --encoder SPEC"),
        (("encoders", "--benchmark", "--encoder", "nonsense"), 2, "is not a spec"),
        (("index", ".", "--encoder", "builtin", "--runtime", "int8"), 12, "use --runtime auto"),
        (("index", ".", "--runtime", "warp"), 2, "warp"),
        (("evaluate", ".", "--encoder", "builtin", "--runtime", "int8"), 12, "use --runtime auto"),
        (("evaluate", "--runtime", "int8"), 2, "an index is judged by its own words"),
    ],
)
def test_what_cannot_be_ends_in_one_line(run: Any, words: tuple[str, ...], code: int, said: str) -> None:
    ended, _, err = run(*words)
    assert ended == code
    assert said in err
    assert err.count("\n") == 1


def test_an_encoder_is_judged_as_a_runtime_runs_it(
    run: Any, tiny: Callable[..., Tiny], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders.measured import MeasuredEncoder

    used: list[str] = []
    plain = MeasuredEncoder.encode_pixels
    monkeypatch.setattr(
        MeasuredEncoder,
        "encode_pixels",
        lambda self, pixels: used.append(self.runtime) or plain(self, pixels),
    )
    for color in ("red", "blue"):
        for mark in range(3):
            draw(tmp_path / "set" / color / f"{mark}.png", color, mark=mark)
    words = ("evaluate", str(tmp_path / "set"), "--encoder", tiny("vit").spec, "--offline", "--json")
    for more, runtime in ((), None), (("--runtime", "torch"), None), (("--runtime", "auto"), "onnx"):
        used.clear()
        code, out, err = run(*words, *more)
        assert code == 0, err
        assert json.loads(out)
        assert set(used) == ({runtime} if runtime else set())
