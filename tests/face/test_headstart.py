"""The encoder that is opened beside the index: it is the one that would be, and never in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from encoders import EncoderDamagedError, builtin_folder, load_encoder
from face.choices import encoder_chooser
from face.headstart import begun_encoder
from indexer import Space, index_folders
from search import Picture, Query, Term, Text
from tests.color import ColorEncoder, draw
from tests.conftest import ROOT

WORDS = Query((Term(Text("a red picture")),))


@pytest.fixture
def built_in(tmp_path: Path) -> Path:
    """An index made with the built-in encoder."""
    draw(tmp_path / "photos" / "red.png", "red")
    encoder = load_encoder("builtin", cache_dir=tmp_path / "cache")
    folder = tmp_path / "index"
    index_folders([str(tmp_path / "photos").encode()], index_dir=folder, encoder=lambda _: encoder, workers=1)
    return folder


@pytest.fixture(autouse=True)
def joined() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "pixseek-encoder":
            thread.join()


def test_it_is_the_encoder_of_the_index_and_answers_alike(built_in: Path, tmp_path: Path) -> None:
    begun = begun_encoder(built_in, None, WORDS, tmp_path / "cache")
    assert begun is not None
    loaded = load_encoder("builtin", cache_dir=tmp_path / "cache")
    assert (begun.spec, begun.fingerprint) == (loaded.spec, loaded.fingerprint)
    texts = ["a red picture", "红色"]
    assert np.array_equal(begun.encode_texts(texts), loaded.encode_texts(texts))


def test_its_text_tower_is_opened_without_being_asked(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders.builtin import BuiltinEncoder

    asked: list[str] = []
    monkeypatch.setattr(BuiltinEncoder, "encode_texts", lambda self, texts: asked.extend(texts))
    begun_encoder(built_in, None, WORDS, tmp_path)
    for thread in threading.enumerate():
        if thread.name == "pixseek-encoder":
            thread.join()
    assert len(asked) == 1


def test_it_is_taken_for_its_own_index_only(built_in: Path, tmp_path: Path) -> None:
    begun = begun_encoder(built_in, None, WORDS, tmp_path)
    assert begun is not None
    choose = encoder_chooser(None, allow_pickle=False, offline=True, begun=begun)
    assert choose(Space(1, "builtin", begun.fingerprint, begun.dim, begun.image_size)) is begun
    folder = tmp_path / "other"
    copy_of_builtin(folder)
    assert choose(Space(1, f"local-dir:{folder}", begun.fingerprint, begun.dim, 224)) is not begun
    asked = encoder_chooser(f"local-dir:{folder}", allow_pickle=False, offline=True, begun=begun)
    assert asked(None) is not begun


def copy_of_builtin(folder: Path) -> None:
    source = builtin_folder("builtin")
    assert source is not None
    shutil.copytree(source, folder)


def test_nothing_is_begun_that_may_not_be_needed(built_in: Path, tmp_path: Path) -> None:
    assert begun_encoder(built_in, None, Query((Term(Picture("a.jpg")),)), tmp_path) is None
    assert begun_encoder(built_in, "ViT-B-32/openai", WORDS, tmp_path) is None
    assert begun_encoder(built_in, "no such thing", WORDS, tmp_path) is None
    assert begun_encoder(tmp_path / "nowhere", None, WORDS, tmp_path) is None


def test_an_index_of_another_encoder_begins_none(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "red.png", "red")
    encoder = ColorEncoder()
    folder = tmp_path / "index"
    index_folders([str(tmp_path / "photos").encode()], index_dir=folder, encoder=lambda _: encoder, workers=1)
    assert begun_encoder(folder, None, WORDS, tmp_path) is None


def test_weights_that_are_damaged_are_said_where_they_are_used(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    copy_of_builtin(folder)
    (folder / "text.onnx").write_bytes(b"damaged")
    begun = begun_encoder(tmp_path, f"local-dir:{folder}", WORDS, tmp_path)
    assert begun is not None
    with pytest.raises(EncoderDamagedError, match="sha256"):
        begun.encode_texts(["red"])


def numpy_threads(environ: dict[str, str]) -> list[str]:
    """Return how often numpy's OpenBLAS may use a thread, and what its variable is afterwards."""
    code = (
        "import os; from face.headstart import load_numpy; load_numpy(); import numpy; "
        "big = numpy.ones((2000, 2000), 'f'); big @ big; "
        "print(len(os.listdir('/proc/self/task')), os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept | environ, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_numpy_has_one_thread_unless_told_otherwise() -> None:
    assert numpy_threads({}) == ["1", "None"]
    assert numpy_threads({"OPENBLAS_NUM_THREADS": "2"}) == ["2", "2"]
