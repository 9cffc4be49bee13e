"""What people install: the wheel has all that is needed and nothing else, and runs far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, draw

ROOMS = ("encoders", "face", "indexer", "search", "training")
FACE = ["cli.py"]
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git to copy the checkout")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout so that no build folder is left in it."""
    copy = tmp_path_factory.mktemp("wheel") / "a copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", *FACE):
        shutil.copy2(ROOT / name, copy / name)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(copy / "dist"),
        str(copy),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_wheel_holds_the_code_the_weights_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(
            next(name for name in archive.namelist() if name.endswith("METADATA"))
        ).decode()
    expected = set(FACE)
    for room in ROOMS:
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*.py")}
    weights = ROOT / "encoders" / "weights"
    expected |= {str(path.relative_to(ROOT)) for path in weights.rglob("*") if path.is_file()}
    extra = {name for name in names if name.endswith("py.typed")}
    expected |= {str(path.relative_to(ROOT)) for path in ROOT.glob("training/pretraining/examples/*.toml")}
    expected.add("training/builtin/words_zh.tsv")
    assert names - extra == expected
    assert "Name: pixseek\n" in metadata
    assert "Requires-Python: >=3.11" in metadata
    core = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert not any(heavy in line for line in core for heavy in ("torch", "open_clip", "onnxscript"))
    assert wheel.stat().st_size < 100 * 1024 * 1024


def test_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """The cheap check: unpacked, with this environment's libraries but without the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path / "site"),
        "LANG": "C.UTF-8",
    }
    code = "import sys, cli; assert cli.__file__.startswith(sys.argv.pop(1)); cli.main()"

    def run(*arguments: str) -> bytes:
        command = [sys.executable, "-c", code, str(tmp_path / "site"), *arguments]
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, check=True).stdout

    try_it(run, tmp_path)


@pytest.mark.slow
def test_wheel_runs_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """The true one: pip installs the wheel and its core dependencies, no torch among them."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    listed = subprocess.run(
        [binaries / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True
    )
    assert "torch" not in listed.stdout

    def run(*arguments: str) -> bytes:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
        command = [binaries / "pixseek", *arguments]
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, check=True).stdout

    assert run("--version").startswith(b"pixseek 0.1")
    try_it(run, tmp_path)


def try_it(run: object, folder: Path) -> None:
    assert callable(run)
    draw(folder / "my photos" / "red.png", "red")
    draw(folder / "my photos" / "blue.png", "blue")
    report = json.loads(
        run("index", str(folder / "my photos"), "--index", "ix", "--encoder", "builtin", "--json")
    )
    assert (report["indexed"], report["failed"]) == (2, 0)
    answer = json.loads(run("similar", str(folder / "my photos" / "red.png"), "--index", "ix", "--json"))
    assert answer["encoder"] == "builtin"
    assert answer["hits"][0]["path"] == str(folder / "my photos" / "red.png")
    assert answer["hits"][0]["score"] > 0.99
