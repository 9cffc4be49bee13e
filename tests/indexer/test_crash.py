"""Kill it at any moment, take its disk away: what was acknowledged is there after the next start.

The gate (every `make test`): 20 random kills and every 8th syscall point. All of them: `make test-all`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.indexer.crash import acknowledged_paths, make_photos, violations

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PHOTOS = 120


def writer(index_dir: Path, photos: Path) -> list[str]:
    return [sys.executable, "-m", "tests.indexer.crash", "write", str(index_dir), str(photos)]


def run_to_the_end(index_dir: Path, photos: Path) -> bytes:
    done = subprocess.run(writer(index_dir, photos), cwd=ROOT, env=ENV, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crash") / "photos"
    make_photos(folder, PHOTOS)
    return folder


def random_kills(rounds: int, tmp_path: Path, photos: Path, seed: int) -> None:
    rng = random.Random(seed)
    index_dir = tmp_path / "index"
    acknowledged: list[str] = []
    for number in range(rounds):
        if number % 5 == 0:
            shutil.rmtree(index_dir, ignore_errors=True)
            acknowledged = []
        process = subprocess.Popen(
            writer(index_dir, photos), cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        # Half of the kills come a moment after the first acknowledged batch, half at any time.
        output = process.stdout.readline() if rng.random() < 0.5 else b""
        time.sleep(rng.uniform(0, 0.4) if output else rng.uniform(0.2, 2.5))
        os.killpg(process.pid, signal.SIGKILL)
        output += process.stdout.read()
        process.wait()
        process.stdout.close()
        acknowledged += acknowledged_paths(output)
        assert violations(index_dir, acknowledged) == []
    acknowledged += acknowledged_paths(run_to_the_end(index_dir, photos))
    assert violations(index_dir, acknowledged) == []
    assert not list(index_dir.glob("*.tmp"))
    assert not list(index_dir.glob("*.new"))


def test_random_kills_lose_nothing(tmp_path: Path, photos: Path):
    random_kills(10, tmp_path, photos, seed=1)


@pytest.mark.slow
def test_many_random_kills_lose_nothing(tmp_path: Path, photos: Path):
    random_kills(200, tmp_path, photos, seed=2)


def strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not strace_works(), reason="strace is not installed or may not trace here")


def traced(
    index_dir: Path, photos: Path, inject: str, path: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    call = inject.split(":", 1)[0]
    only = ["-P", str(path)] if path else []
    command = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        *only,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={inject}",
    ]
    return subprocess.run(
        command + writer(index_dir, photos), cwd=ROOT, env=ENV, capture_output=True, timeout=120
    )


KILL_POINTS = [
    (call, when)
    for call, points in {
        "pwrite64": range(1, 604, 19), "fdatasync": range(1, 26, 2), "fsync": range(1, 8),
        "rename": range(1, 5), "ftruncate": range(1, 4), "unlink": range(1, 9),
    }.items()
    for when in points
]  # fmt: skip


def killed_twice_at(call: str, when: int, tmp_path: Path, photos: Path) -> None:
    index_dir = tmp_path / "index"
    acknowledged: list[str] = []
    for _ in range(2):  # the second time during recovery
        done = traced(index_dir, photos, f"{call}:signal=KILL:when={when}")
        acknowledged += acknowledged_paths(done.stdout)
        assert violations(index_dir, acknowledged) == []
    acknowledged += acknowledged_paths(run_to_the_end(index_dir, photos))
    assert violations(index_dir, acknowledged) == []
    assert not list(index_dir.glob("*.tmp"))
    assert not list(index_dir.glob("*.new"))


@needs_strace
@pytest.mark.parametrize(("call", "when"), KILL_POINTS[::8])
def test_kill_at_a_syscall_and_again_during_recovery(call: str, when: int, tmp_path: Path, photos: Path):
    killed_twice_at(call, when, tmp_path, photos)


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize(("call", "when"), KILL_POINTS)
def test_kill_at_every_syscall(call: str, when: int, tmp_path: Path, photos: Path):
    killed_twice_at(call, when, tmp_path, photos)


@needs_strace
@pytest.mark.parametrize(
    "inject", ["pwrite64:error=ENOSPC:when=40+", "fdatasync:error=EIO:when=7+", "fsync:error=EIO:when=4"]
)
def test_failing_disk_keeps_what_was_acknowledged(inject: str, tmp_path: Path, photos: Path):
    index_dir = tmp_path / "index"
    done = traced(index_dir, photos, inject)
    assert done.returncode != 0
    assert b"IndexStorageError" in done.stderr
    acknowledged = acknowledged_paths(done.stdout)
    assert violations(index_dir, acknowledged) == []
    run_to_the_end(index_dir, photos)
    assert violations(index_dir, acknowledged) == []


@pytest.mark.root
def test_full_disk_keeps_what_was_acknowledged_and_goes_on_with_space(tmp_path: Path, photos: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=260k", "tmpfs", disk]).returncode:
        pytest.skip("needs root and the right to mount")
    try:
        index_dir = disk / "index"
        done = subprocess.run(writer(index_dir, photos), cwd=ROOT, env=ENV, capture_output=True, timeout=120)
        assert done.returncode != 0
        assert b"IndexStorageError" in done.stderr
        acknowledged = acknowledged_paths(done.stdout)
        assert violations(index_dir, acknowledged) == []
        subprocess.run(["mount", "-o", "remount,size=60m", disk], check=True)
        acknowledged += acknowledged_paths(run_to_the_end(index_dir, photos))
        assert violations(index_dir, acknowledged) == []
        assert len(acknowledged) == PHOTOS
    finally:
        subprocess.run(["umount", disk])


def test_full_disk_while_a_snapshot_is_written_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import resource

    from indexer import IndexStorageError, check, snapshots
    from indexer.ledger import Ledger
    from tests.indexer.conftest import Library

    library = Library(tmp_path)
    library.fill(300)
    library.index()
    old = {path.name for path in library.index_dir.glob("vectors-*")}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Ledger.open_or_create(library.index_dir) as ledger:
        space = ledger.space()
        assert space is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
        try:
            with pytest.raises(IndexStorageError):
                snapshots.publish(ledger, space)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
    assert {path.name for path in library.index_dir.glob("vectors-*")} == old
    assert check(library.index_dir).ok


def test_readers_are_never_wrong_while_a_writer_works(tmp_path: Path, photos: Path):
    from indexer import Index, IndexMissingError
    from tests.indexer.crash import SeedEncoder

    index_dir = tmp_path / "index"
    query = SeedEncoder().encode_texts(["anything"])[0]
    process = subprocess.Popen(writer(index_dir, photos), cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL)
    counts = [0]
    try:
        while process.poll() is None:
            try:
                with Index.open(index_dir) as index:
                    near = index.nearest(query, 1000)
                    shown = index.frames([neighbor.frame_id for neighbor in near])
            except IndexMissingError:
                continue
            assert len(shown) == len(near) == len({neighbor.frame_id for neighbor in near})
            assert index.warnings == []
            counts.append(len(near))
    finally:
        process.kill()
        process.wait()
    assert counts == sorted(counts), "what was committed stays"
    assert len(set(counts)) > 3, "several stages of the growing index were seen"


def test_index_folder_removed_while_writing_is_an_error_not_a_new_index(tmp_path: Path):
    from indexer import IndexStorageError
    from tests.indexer.conftest import Library

    library = Library(tmp_path)
    library.fill(60)
    moved = tmp_path / "moved"

    def move(progress: object) -> None:
        if library.index_dir.exists() and not moved.exists():
            library.index_dir.rename(moved)

    with pytest.raises(IndexStorageError, match="removed or replaced"):
        library.index(on_progress=move)
    assert not library.index_dir.exists()
