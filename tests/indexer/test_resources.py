"""How much of the machine a run takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer import resources

GIB = 1 << 30


def group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text + "\n")


def test_limits_of_every_control_group_above_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/pod/box\n")
    root = tmp_path / "fs"
    group(root, "", cpu_max="max 100000")
    group(root, "pod", cpu_max="150000 100000", memory_max=str(3 * GIB))
    group(root, "pod/box", cpu_max="max 100000", memory_max="max")
    found = resources._groups(root, own)
    assert found == [root / "pod/box", root / "pod", root]
    monkeypatch.setattr(resources, "_groups", lambda: found)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert resources.cores() == 2
    assert resources.memory_bytes() <= 3 * GIB


@pytest.mark.parametrize(
    ("cores", "memory", "workers"),
    [(1, 4 * GIB, 1), (2, 4 * GIB, 2), (2, GIB // 2, 1), (64, 256 * GIB, 64), (64, 4 * GIB, 9)],
)
def test_workers_are_as_many_as_cores_where_memory_allows(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory: int, workers: int
) -> None:
    monkeypatch.setattr(resources, "cores", lambda: cores)
    monkeypatch.setattr(resources, "memory_bytes", lambda: memory)
    assert resources.default_workers() == workers


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert resources._groups(tmp_path, tmp_path / "none") == []
