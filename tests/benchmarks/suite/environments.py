"""The peers' own environments, made from PyPI below .bench/: nothing of theirs comes into pixseek's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.suite.settings import HOME

RCLIP = ("rclip==3.3.0",)
PEERS = ("numpy", "psutil", "matplotlib", "usearch", "hnswlib", "sqlite-vec", "apsw", "lancedb", "faiss-cpu")


def python_of(name: str) -> Path:
    """Return the interpreter of an environment."""
    return HOME / "environments" / name / "bin" / "python"


def make(name: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Return {package: version, or why it is not there}, installing what is missing.

    Each package is asked for by itself where all together fail, so that one that has no wheel for this
    machine does not cost the others.
    """
    python = python_of(name)
    if not python.exists():
        shutil.rmtree(python.parents[1], ignore_errors=True)
        print(f"making the environment of {', '.join(packages)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    found = _versions(python, packages)
    why: dict[str, str] = {}
    missing = [package for package in packages if package.partition("==")[0] not in found]
    if missing and _install(python, missing):
        for package in missing:
            if trouble := _install(python, [package]):
                why[package.partition("==")[0]] = trouble
    if missing:
        found = _versions(python, packages)
    return {**found, **why}


def _install(python: Path, packages: list[str]) -> str | None:
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
    return f"could not be installed: {said[-1].removeprefix('ERROR: ')[:160]}"


def _versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    code = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try: found[name] = version(name)
    except PackageNotFoundError: pass
print(json.dumps(found))
"""
    names = [package.partition("==")[0] for package in packages]
    told = subprocess.run([python, "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(told.stdout)
    return found


def rclip_command() -> tuple[str, ...]:
    """Return rclip's own command, in a form that a moved environment keeps."""
    return str(python_of("rclip")), "-m", "rclip"
