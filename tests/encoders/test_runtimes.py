"""The choice of a runtime: measured, compared with float32, remembered, not in the way of small work."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders import RUNTIMES, Choice, EncoderError, RuntimeUnavailableError, Trial, load_encoder, machine
from encoders.measured import MEASURE_AFTER_S, MeasuredEncoder
from encoders.probes import probe_squares
from encoders.registry import runtimes_of
from encoders.runtimes import Runtimes, _BaseTower
from encoders.specs import parse_spec
from encoders.store import Store
from encoders.trials import agreement, attempt
from tests.benchmarks.random_weights import put_outliers
from tests.color import ColorEncoder
from tests.encoders.conftest import Tiny, cosines

ROOT = Path(__file__).resolve().parents[2]
MakeTiny = Callable[..., Tiny]


@pytest.fixture
def runtimes(tiny: MakeTiny, clip_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtimes:
    """Of a tiny model in a cache of its own, measured in a moment and however fast float32 is."""
    monkeypatch.setattr("encoders.runtimes.FAST_ENOUGH", 1e9)
    monkeypatch.setattr("encoders.trials.SECONDS", 0.01)
    model = tiny("vit")
    load_encoder(model.spec, cache_dir=clip_cache)
    cache = Path(shutil.copytree(clip_cache, tmp_path / "cache"))
    base: Any = load_encoder(model.spec, cache_dir=cache, threads=1)
    return runtimes_of(base, parse_spec(model.spec), Store(cache), False, True)


# --- the check


def test_agreement_is_the_least_cosine_and_the_neighbours_kept() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert agreement(rows, rows) == pytest.approx((1.0, 1.0))
    other = rows.copy()
    other[3] = -rows[3]
    cosine, overlap = agreement(other, rows)
    assert cosine == pytest.approx(-1.0, abs=1e-5)
    assert 0.5 < overlap < 1.0
    other[3, 0] = np.nan
    assert agreement(other, rows) == (-1.0, 0.0)


def test_probes_are_the_same_every_time_and_no_two_alike() -> None:
    squares = probe_squares(64, 40)
    assert squares.shape == (40, 64, 64, 3)
    assert np.array_equal(squares[:5], probe_squares(64, 5))
    assert len({square.tobytes() for square in squares}) == 40


# --- measuring


def test_what_was_measured_is_remembered_for_this_machine_only(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtimes.recall() is None
    choice = runtimes.measure()
    assert [trial.runtime for trial in choice.trials] == [name for name in RUNTIMES if name != "torch"]
    trials = {trial.runtime: trial for trial in choice.trials}
    assert trials["onnx"].agrees
    assert trials["int8"].agrees, trials["int8"]
    assert runtimes.recall() == choice
    known = machine.description()
    monkeypatch.setattr(machine, "description", lambda: {**known, "cores": 99})
    assert runtimes.recall() is None


def test_the_fastest_that_agrees_is_chosen(runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"onnx": (10.0, 1.0), "int8": (40.0, 0.98), "openvino": (30.0, 0.995), "bf16": (20.0, 1.0)}

    def attempt(runtime: str, *_: Any) -> Trial:
        rate, cosine = rates.get(runtime, (0.0, 0.0))
        return Trial(runtime, None if rate else "not here", rate, cosine, 1.0)

    monkeypatch.setattr("encoders.runtimes.attempt", attempt)
    monkeypatch.setattr(Runtimes, "_attempt", lambda self, runtime, *_: attempt(runtime))
    assert runtimes.measure().runtime == "openvino"
    rates["openvino"] = (10.5, 1.0)  # noise
    rates["bf16"] = (10.9, 1.0)
    assert runtimes.measure().runtime == "onnx"


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"runtime": "warp", "trials": [], "probes": 1}'])
def test_a_damaged_record_is_no_record(runtimes: Runtimes, text: str) -> None:
    runtimes.measure()
    runtimes._record().write_text(text)
    assert runtimes.recall() is None


def test_an_encoder_faster_than_decoding_is_not_compared(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.runtimes.FAST_ENOUGH", 0.001)
    choice = runtimes.measure()
    assert choice.runtime == "onnx"
    assert all("faster than pictures are decoded" in str(trial.why_not) for trial in choice.trials[1:])


# --- the tower in 8 bits


def test_the_int8_tower_is_kept_and_a_damaged_one_made_again(runtimes: Runtimes) -> None:
    squares, reference = runtimes.probes()
    tower = runtimes.open("int8")
    assert cosines(tower(squares), reference).min() >= 0.99
    path = runtimes._int8_folder() / "image.onnx"
    made = path.read_bytes()
    path.write_bytes(made[: len(made) // 2])
    left = path.parent.parent / f"{path.parent.name}.tmp-killed"
    left.mkdir()
    assert np.array_equal(runtimes.open("int8")(squares), tower(squares))
    assert path.read_bytes() == made
    assert not left.exists()


def test_weights_that_are_hard_links_are_read(runtimes: Runtimes, tmp_path: Path) -> None:
    assert runtimes.graph is not None
    for path in runtimes.graph.parent.iterdir():
        os.link(path, tmp_path / path.name)
    squares, reference = runtimes.probes()
    assert cosines(runtimes.open("int8")(squares), reference).min() >= 0.99


def test_a_full_disk_is_why_not_and_stops_nothing(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("encoders.int8_tower._write", full)
    monkeypatch.setattr("encoders.runtimes.write_json", full)
    trials = {trial.runtime: trial for trial in runtimes.measure().trials}
    assert trials["int8"].why_not == "it cannot be kept: No space left on device"
    assert runtimes.recall() is None


@pytest.fixture
def with_outliers(
    tiny: MakeTiny, clip_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Runtimes:
    """Of a model with channels eighty times larger than the rest, and nothing smoothed."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    monkeypatch.setattr("encoders.quantized.SMOOTH", (0.0,))
    monkeypatch.setattr("encoders.runtimes.FAST_ENOUGH", 1e9)
    monkeypatch.setattr("encoders.trials.SECONDS", 0.01)
    model = tiny("vit").copy(tmp_path / "outliers")
    state = load_file(model.weights)
    for block in range(2):
        put_outliers(state, f"visual.transformer.resblocks.{block}.", 2)
    save_file(state, str(model.weights))
    base: Any = load_encoder(model.spec, cache_dir=clip_cache, threads=1)
    return runtimes_of(base, parse_spec(model.spec), Store(clip_cache), False, True)


def test_where_8_bits_are_not_enough_another_runtime_is_taken(
    with_outliers: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.int8_tower.SHARES", (0.0,))
    choice = with_outliers.measure()
    trials = {trial.runtime: trial for trial in choice.trials}
    assert "agrees with float32 to cosine" in str(trials["int8"].why_not)
    assert choice.runtime != "int8"
    if trials["bf16"].why_not is None:
        assert trials["bf16"].agrees


def test_where_8_bits_are_not_enough_products_go_into_blocks(
    with_outliers: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.quantized.BLOCK", 16)  # the tiny model is no wider than one of 128
    monkeypatch.setattr("encoders.int8_tower.MIN_OVERLAP", 0.6)  # and hardly tells pictures apart
    squares, reference = with_outliers.probes()
    assert cosines(with_outliers.open("int8")(squares), reference).min() >= 0.99
    assert json.loads((with_outliers._int8_folder() / "config.json").read_text())["blocks"] > 0


_CHOSEN = """
import sys
from pathlib import Path
import numpy as np
from encoders import load_encoder
encoder = load_encoder(sys.argv[1], cache_dir=Path(sys.argv[2]), threads=1, offline=True, runtime="auto")
squares = np.full((4, encoder.image_size, encoder.image_size, 3), 99, np.uint8)
for _ in range(400):
    encoder.encode_pixels(squares)
heavy = [name for name in ("torch", "open_clip", "transformers", "onnx", "timm") if name in sys.modules]
print(encoder.runtime, heavy)
"""


def test_a_remembered_int8_runs_without_torch_or_onnx(runtimes: Runtimes) -> None:
    runtimes.measure()
    record = json.loads(runtimes._record().read_text())
    runtimes._record().write_text(json.dumps({**record, "runtime": "int8"}))
    call = [sys.executable, "-c", _CHOSEN, runtimes.base.spec, str(runtimes.store.root)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == "int8 []", done.stderr


# --- what was asked for


@pytest.mark.parametrize(
    ("runtime", "what", "why"),
    [
        ("bf16", "encoders.machine.has_bf16", "no bfloat16"),
        ("cuda", "encoders.machine.gpus", "no NVIDIA card"),
    ],
)
def test_a_runtime_that_cannot_run_says_why(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch, runtime: Any, what: str, why: str
) -> None:
    monkeypatch.setattr(what, lambda: [])
    with pytest.raises(RuntimeUnavailableError, match=f"cannot run with {runtime}: .*{why}.*--runtime auto"):
        load_encoder(runtimes.base.spec, cache_dir=runtimes.store.root, runtime=runtime)


def test_the_built_in_encoder_refuses_other_runtimes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="onnx only"):
        load_encoder("builtin", cache_dir=tmp_path, runtime="int8")
    assert load_encoder("builtin", cache_dir=tmp_path, runtime="auto").spec == "builtin"


def test_a_runtime_that_disagrees_is_refused(runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(self: Runtimes, *_: Any) -> Any:
        wrong = Wrong(self.base)
        return wrong

    monkeypatch.setattr(Runtimes, "open", noise)
    with pytest.raises(EncoderError, match=r"does not agree with float32.*--runtime auto"):
        MeasuredEncoder(runtimes, "bf16")


@pytest.mark.parametrize("runtime", ["int8", "bf16"])
def test_a_runtime_that_was_asked_for_runs_from_the_first_picture(runtimes: Runtimes, runtime: Any) -> None:
    reason = runtimes.why_not(runtime)
    if reason is not None:
        pytest.skip(reason[0])
    encoder: Any = load_encoder(runtimes.base.spec, cache_dir=runtimes.store.root, runtime=runtime)
    squares = probe_squares(encoder.image_size, 8)
    assert encoder.runtime == runtime
    assert encoder.fingerprint == runtimes.base.fingerprint
    assert cosines(encoder.encode_pixels(squares), runtimes.base.encode_pixels(squares)).min() >= 0.99
    assert np.array_equal(encoder.encode_texts(["a dog"]), runtimes.base.encode_texts(["a dog"]))
    assert encoder.encode_pixels(squares[:0]).shape == (0, encoder.dim)


def test_a_runtime_that_was_asked_for_is_compared_once(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def noted(runtime: str, *rest: Any) -> Trial:
        tried.append(runtime)
        return attempt(runtime, *rest)

    monkeypatch.setattr(Runtimes, "open", lambda self, *_: _BaseTower(self.base))
    monkeypatch.setattr("encoders.runtimes.attempt", noted)
    runtimes.checked("bf16")
    runtimes.checked("bf16")
    assert tried == ["bf16"]
    runtimes.checked("int8")
    assert tried == ["bf16", "int8"]
    for record in (b"", b"{}", b'{"runtime": "bf16", "cosine": 0.5, "overlap": 1.0}', b"[]", b'{"a": 1}'):
        runtimes._record("bf16").write_bytes(record)
        runtimes.checked("bf16")
        assert tried.pop() == "bf16"
    assert runtimes.recall() is None


def test_a_runtime_whose_trial_ends_the_process_is_not_tried_for_ever(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Any:
        raise SystemExit  # and nothing is tidied up, see below

    monkeypatch.setattr(
        Runtimes, "why_not", lambda self, runtime: None if runtime == "bf16" else ("no", "no")
    )
    monkeypatch.setattr(Runtimes, "open", killed)
    set_tries = Runtimes._set_tries
    monkeypatch.setattr(
        Runtimes,
        "_set_tries",
        lambda self, runtime, tries: set_tries(self, runtime, tries) if tries else None,
    )
    for _ in range(3):
        with pytest.raises(SystemExit):
            runtimes.measure()
    choice = runtimes.measure()
    assert choice.runtime == "onnx"
    assert runtimes.recall() == choice
    (bf16,) = (trial for trial in choice.trials if trial.runtime == "bf16")
    assert "ended 3 times" in str(bf16.why_not)
    monkeypatch.setattr(Runtimes, "_set_tries", set_tries)
    with pytest.raises(SystemExit):
        runtimes.measure(afresh=True)


def test_a_library_that_cannot_be_loaded_is_one_line(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.setattr(Runtimes, "why_not", lambda *_: None)
    with pytest.raises(RuntimeUnavailableError, match=r"failed to map segment.*use --runtime auto"):
        replace(runtimes, build=broken).checked("torch")


# --- when it pays


class Wrong:
    """A tower that gives every square the same embedding."""

    batch_size = 3

    def __init__(self, base: Any) -> None:
        self.dim = base.dim
        self.calls = 0

    def __call__(self, pixels: Any) -> Any:
        self.calls += 1
        return np.ones((len(pixels), self.dim), dtype=np.float32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that a call of the base encoder moves on by a second."""
    time = SimpleNamespace(now=0.0)
    monkeypatch.setattr("encoders.measured.time", SimpleNamespace(perf_counter=lambda: time.now))
    return time


class Fake:
    """Runtimes without any: what is asked of them is written down."""

    def __init__(self, clock: Any, choice: Choice | None) -> None:
        self.base, self.asked, self.choice = ColorEncoder(), [], choice
        plain = self.base.encode_pixels

        def slow(pixels: Any) -> Any:
            clock.now += 1.0
            return plain(pixels)

        self.base.encode_pixels = slow  # type: ignore[method-assign]
        self.asked: list[str] = []
        self.error: EncoderError | None = None

    def recall(self) -> Choice | None:
        return self.choice

    def probes(self, seen: Any) -> Any:
        self.asked.append(f"probes {len(seen)}")

    def measure(self, _: Any) -> Choice:
        self.asked.append("measure")
        return CHOICE

    def open(self, runtime: str) -> Any:
        self.asked.append(f"open {runtime}")
        if self.error:
            raise self.error
        return Wrong(self.base)

    def forget(self) -> None:
        self.asked.append("forget")


CHOICE = Choice(
    "int8", (Trial("onnx", None, 10.0, 1.0, 1.0), Trial("int8", None, 30.0, 0.99, 1.0, 0, 3.0)), 16, {}
)


def encoder_of(fake: Fake, said: list[str] | None = None) -> MeasuredEncoder:
    return MeasuredEncoder(fake, None, None if said is None else said.append)  # type: ignore[arg-type]


def squares(count: int = 1) -> Any:
    return np.zeros((count, ColorEncoder().image_size, ColorEncoder().image_size, 3), dtype=np.uint8)


def test_a_few_pictures_never_wait_for_anything(clock: Any) -> None:
    fake = Fake(clock, None)
    encoder = encoder_of(fake)
    for _ in range(int(MEASURE_AFTER_S)):
        encoder.encode_pixels(squares())
    assert fake.asked == []


def test_many_pictures_are_measured_once_with_what_came_first(clock: Any) -> None:
    fake, said = Fake(clock, None), []
    encoder = encoder_of(fake, said)
    for _ in range(20):
        encoder.encode_pixels(squares(5))
    assert fake.asked == ["probes 32", "measure", "open int8"]
    assert len(said) == 1
    assert encoder.runtime == "int8"
    assert encoder.batch_size == 3


def test_a_known_runtime_is_opened_when_as_much_was_spent_as_it_takes_to_load(clock: Any) -> None:
    fake = Fake(clock, CHOICE)
    encoder = encoder_of(fake)
    asked = []
    for _ in range(6):
        encoder.encode_pixels(squares(7))
        asked.append(list(fake.asked))
    assert asked == [[], [], [], ["open int8"], ["open int8"], ["open int8"]]


def test_a_runtime_that_broke_since_is_forgotten_and_the_run_goes_on(clock: Any) -> None:
    fake = Fake(clock, CHOICE)
    fake.error = EncoderError("its weights have changed")
    encoder = encoder_of(fake)
    for _ in range(8):
        assert len(encoder.encode_pixels(squares(2))) == 2
    assert fake.asked == ["open int8", "forget"]


def test_a_runtime_that_fails_in_the_middle_is_left_for_float32(clock: Any) -> None:
    fake = Fake(clock, CHOICE)
    encoder = encoder_of(fake)
    for _ in range(4):
        encoder.encode_pixels(squares(2))
    assert encoder.runtime == "int8"

    def fail(pixels: Any) -> Any:
        raise EncoderError("the int8 tower failed")

    encoder._tower = fail  # type: ignore[assignment]
    np.testing.assert_array_equal(encoder.encode_pixels(squares(2)), fake.base.encode_pixels(squares(2)))
    assert fake.asked == ["open int8", "forget"]
    assert encoder.runtime == "onnx"


@pytest.mark.parametrize("error", [EncoderError("no"), MemoryError(), RuntimeError("no"), OSError(28, "no")])
def test_what_cannot_be_measured_ends_no_run(clock: Any, error: Exception) -> None:
    fake = Fake(clock, None)

    def fail(_: Any) -> Choice:
        assert encoder.preparing
        raise error

    fake.measure = fail  # type: ignore[method-assign]
    encoder = encoder_of(fake)
    for _ in range(15):
        assert len(encoder.encode_pixels(squares(2))) == 2
    assert not encoder.preparing
    assert fake.asked == ["probes 22"]


def test_onnx_chosen_changes_nothing(clock: Any) -> None:
    fake = Fake(clock, replace(CHOICE, runtime="onnx"))
    fake.base.runtime = "onnx"  # type: ignore[attr-defined]
    encoder = encoder_of(fake)
    for _ in range(8):
        encoder.encode_pixels(squares())
    assert fake.asked == []
