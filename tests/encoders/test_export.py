"""Exports: whole or absent, checked when touched, made once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import EncoderDamagedError, load_encoder, ready_encoder
from encoders.onnx_runtime import OnnxEncoder
from tests.encoders.conftest import Tiny, stills

ROOT = Path(__file__).resolve().parents[2]
MakeTiny = Callable[..., Tiny]
FILES = ("config.json", "image.onnx", "image.onnx.data", "text.onnx", "text.onnx.data", "tokenizer.json")


@pytest.fixture
def model(tiny: MakeTiny) -> Tiny:
    return tiny("vit")


@pytest.fixture
def cache(model: Tiny, clip_cache: Path, tmp_path: Path) -> Path:
    """A cache of its own that holds the model, times and all."""
    load_encoder(model.spec, cache_dir=clip_cache)
    return Path(shutil.copytree(clip_cache, tmp_path / "cache"))


def export_folder(cache: Path, model: Tiny) -> Path:
    encoder = load_encoder(model.spec, cache_dir=cache)
    return cache / "onnx" / encoder.fingerprint


def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.sources.installed", lambda: False)


def test_an_export_is_complete_and_says_how_well_it_agrees(cache: Path, model: Tiny) -> None:
    folder = export_folder(cache, model)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "golden.npz"])
    config = json.loads((folder / "config.json").read_text())
    assert min(config["agreement"].values()) >= 0.9999
    assert set(config["files"]) == {*FILES, "golden.npz"} - {"config.json"}


def test_an_export_gives_its_golden_outputs(cache: Path, model: Tiny) -> None:
    golden = np.load(export_folder(cache, model) / "golden.npz")
    encoder = load_encoder(model.spec, cache_dir=cache)
    np.testing.assert_allclose(encoder.encode_pixels(golden["pixels"]), golden["image"], atol=1e-4)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_a_damaged_export_never_answers(
    cache: Path, model: Tiny, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    path = export_folder(cache, model) / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        at = data.index(b'"mean"') + 1 if name == "config.json" else len(data) // 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    no_torch(monkeypatch)
    with pytest.raises(EncoderDamagedError) as caught:
        load_encoder(model.spec, cache_dir=cache)
    assert name in str(caught.value)


def test_a_damaged_export_is_made_again_where_torch_and_weights_are(
    cache: Path, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_folder(cache, model)
    monkeypatch.setattr("encoders.export._write", copy_of(Path(shutil.copytree(folder, tmp_path / "made"))))
    before = load_encoder(model.spec, cache_dir=cache).encode_texts(["a dog"])
    (folder / "text.onnx.data").write_bytes(b"")
    encoder = load_encoder(model.spec, cache_dir=cache)
    assert isinstance(encoder, OnnxEncoder)
    np.testing.assert_allclose(encoder.encode_texts(["a dog"]), before, atol=1e-6)


def test_an_export_is_ready_as_long_as_it_is_whole(cache: Path, model: Tiny) -> None:
    loaded = load_encoder(model.spec, cache_dir=cache)
    ready = ready_encoder(model.spec, cache_dir=cache)
    assert isinstance(ready, OnnxEncoder)
    assert (ready.spec, ready.fingerprint) == (loaded.spec, loaded.fingerprint)
    folder = export_folder(cache, model)
    (folder / "text.onnx.data").write_bytes(b"")
    assert ready_encoder(model.spec, cache_dir=cache) is None
    assert folder.is_dir()  # `load_encoder` makes it again, and says so


def test_a_copied_export_with_new_times_is_hashed_once_and_used(
    cache: Path, model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_folder(cache, model)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    no_torch(monkeypatch)
    load_encoder(model.spec, cache_dir=cache)
    monkeypatch.setattr("encoders.onnx_runtime.sha256_file", lambda path: pytest.fail("hashed again"))
    load_encoder(model.spec, cache_dir=cache).encode_texts(["a dog"])


def test_weights_are_hashed_once_while_they_stay_as_they_are(
    cache: Path, model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.store.sha256_file", lambda path: pytest.fail("hashed again"))
    load_encoder(model.spec, cache_dir=cache, runtime="torch")
    shutil.rmtree(cache / "specs")
    load_encoder(model.spec, cache_dir=cache)


_KILLED = """
import os, signal, sys
from pathlib import Path
import encoders.export as export
from encoders import load_encoder
def kill_at_the_second_tower(tower, path, *rest):
    path.write_bytes(b"half")
    if path.name == "text.onnx":
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0
export._export_tower = kill_at_the_second_tower
load_encoder(sys.argv[1], cache_dir=Path(sys.argv[2]))
"""


def copy_of(made: Path) -> Callable[[Any, Path], None]:
    """Return what stands in for a second export of the same model: a copy of the first."""

    def write(built: Any, folder: Path) -> None:
        shutil.copytree(made, folder, dirs_exist_ok=True)

    return write


def test_an_export_killed_half_way_is_never_loaded_and_swept(
    cache: Path, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_folder(cache, model)
    cache = tmp_path / "fresh"
    command = [sys.executable, "-c", _KILLED, model.spec, str(cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = (path for path in (cache / "onnx").iterdir() if path.is_dir())
    assert ".tmp-" in left.name
    assert (left / "text.onnx").read_bytes() == b"half"
    monkeypatch.setattr("encoders.export._write", copy_of(made))
    encoder = load_encoder(model.spec, cache_dir=cache)
    assert isinstance(encoder, OnnxEncoder)
    assert encoder.encode_texts(["a dog"]).shape == (1, encoder.dim)
    assert [path.name for path in (cache / "onnx").iterdir() if path.is_dir()] == [encoder.fingerprint]


def test_an_export_that_raises_leaves_nothing_and_torch_answers_with_a_notice(
    cache: Path, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders import export

    wanted = load_encoder(model.spec, cache_dir=cache).encode_images(stills())
    fresh, calls = tmp_path / "fresh", []

    def fails(*arguments: Any) -> None:
        calls.append(1)
        raise RuntimeError("no such operator\nsecond line")

    monkeypatch.setattr(export, "_by_tracing_graphs", fails)
    monkeypatch.setattr(export, "_by_scripting", fails)
    for _ in range(2):
        encoder: Any = load_encoder(model.spec, cache_dir=fresh)
        assert encoder.runtime == "torch"
        assert "queries will be slower" in encoder.notice
        assert "no such operator" in encoder.notice
        assert "\n" not in encoder.notice
        np.testing.assert_allclose(encoder.encode_images(stills()), wanted, atol=1e-4)
    assert len(calls) == 2, "a failure is remembered for these versions: both exporters are tried once"
    assert not [path for path in (fresh / "onnx").iterdir() if path.is_dir()]


def test_an_export_that_disagrees_with_torch_is_refused(
    cache: Path, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders import export

    made = export_folder(cache, model)

    def altered(tower: Any, path: Path, *rest: Any) -> None:
        shutil.copy(made / path.name, path)
        weights = bytearray((made / f"{path.name}.data").read_bytes())
        weights[: len(weights) // 2] = bytes(len(weights) // 2)
        path.with_name(f"{path.name}.data").write_bytes(weights)

    monkeypatch.setattr(export, "_by_tracing_graphs", altered)
    monkeypatch.setattr(export, "_by_scripting", altered)
    encoder: Any = load_encoder(model.spec, cache_dir=tmp_path / "fresh")
    assert encoder.runtime == "torch"
    assert "agrees with torch to cosine" in encoder.notice


def test_a_tokenizer_that_cannot_be_rebuilt_runs_through_torch(
    model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders import export, tokens

    real = tokens.clip_tokenizer
    monkeypatch.setattr(
        export, "clip_tokenizer", lambda path, **settings: real(path, **settings | {"clean": "whitespace"})
    )
    encoder: Any = load_encoder(model.spec, cache_dir=tmp_path / "cache")
    assert encoder.runtime == "torch"
    assert "tokenizer could not be rebuilt" in encoder.notice


def test_a_cache_that_cannot_be_written_costs_time_and_breaks_nothing(model: Tiny, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    encoder: Any = load_encoder(model.spec, cache_dir=tmp_path / "cache")
    assert "cache folder cannot be written" in encoder.notice
    assert encoder.encode_texts(["a dog"]).shape == (1, encoder.dim)


def test_two_exports_at_once_are_one(
    model: Tiny, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders import export, sources
    from encoders.openclip import TorchModel
    from encoders.specs import parse_spec
    from encoders.store import Store

    made = export_folder(cache, model)
    store = Store(tmp_path / "fresh")
    built = TorchModel(sources.resolve(parse_spec(model.spec)), store)
    writes = []

    def slow_write(built: Any, folder: Path) -> None:
        writes.append(folder)
        time.sleep(0.3)
        copy_of(made)(built, folder)

    monkeypatch.setattr(export, "_write", slow_write)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(export.export(built, store))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [store.onnx_dir(built.fingerprint)] * 3
    assert len(writes) == 1


@pytest.mark.slow
def test_two_processes_exporting_at_once_both_answer(model: Tiny, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from encoders import load_encoder\n"
        "encoder = load_encoder(sys.argv[1], cache_dir=Path(sys.argv[2]), runtime='onnx')\n"
        "print(encoder.encode_texts(['a']).sum())"
    )
    command = [sys.executable, "-c", code, model.spec, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert len([path for path in (tmp_path / "cache" / "onnx").iterdir() if path.is_dir()]) == 1
