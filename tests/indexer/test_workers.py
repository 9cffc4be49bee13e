"""Decode processes: what a file, a drive or a signal can do to them, and what it cannot."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.base import Preprocess
from indexer import sandbox
from indexer.images import DecodeLimits, Region
from indexer.workers import (
    Decoded,
    DecodeFailure,
    DecodePool,
    DecodeTask,
    FileStat,
    Outcome,
    WorkerStartError,
)
from tests.indexer.pictures import encode, jpeg, photo_exif, scene

SIZE = 64
MISBEHAVING = "tests.indexer.pictures:misbehaving"


def run(
    pool: DecodePool, paths: list[Path], timeout_s: float = 60, **options: frozenset[bytes]
) -> list[Outcome]:
    """Return one outcome per path, in the order of the paths."""
    for token, path in enumerate(paths):
        pool.submit(DecodeTask(token, os.fsencode(path), **options))
    found: dict[int, Outcome] = {}
    deadline = time.monotonic() + timeout_s
    while pool.outstanding:
        assert time.monotonic() < deadline, f"only {len(found)} of {len(paths)} came back"
        for outcome in pool.results(1):
            assert outcome.token not in found
            found[outcome.token] = outcome
    assert sorted(found) == list(range(len(paths)))
    return [found[token] for token in range(len(paths))]


def write(folder: Path, name: str, data: bytes | None = None) -> Path:
    path = folder / name
    path.write_bytes(jpeg() if data is None else data)
    return path


def failure(outcome: Outcome) -> DecodeFailure:
    assert isinstance(outcome, DecodeFailure), outcome
    return outcome


def decoded(outcome: Outcome) -> Decoded:
    assert isinstance(outcome, Decoded), outcome
    return outcome


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def shared() -> Iterator[DecodePool]:
    """One pool of ordinary workers for the tests that do not break it."""
    with DecodePool(Preprocess(SIZE), workers=2) as pool:
        yield pool


# --- answers --------------------------------------------------------------------------------------------


def test_file_becomes_pixels(shared: DecodePool, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jpg", jpeg(exif=photo_exif()))
    found = decoded(run(shared, [path])[0])
    info = path.stat()
    assert found.path == os.fsencode(path)
    assert found.stat == FileStat(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev)
    assert found.content_hash == hashlib.blake2b(path.read_bytes(), digest_size=32).digest()
    assert (found.known, found.width, found.height, found.format, found.warning) == (
        False,
        320,
        240,
        "JPEG",
        None,
    )
    assert found.regions == [None]
    assert found.pixels.shape == (1, SIZE, SIZE, 3)
    assert found.pixels.dtype == np.uint8
    expected = Preprocess(SIZE)(scene()).astype(float)
    assert np.abs(found.pixels[0] - expected).mean() < 3
    assert found.metadata is not None
    assert found.metadata.taken_at == "2023-06-01T12:30:00+01:00"


def test_panorama_comes_with_its_tiles(shared: DecodePool, tmp_path: Path) -> None:
    found = decoded(run(shared, [write(tmp_path, "a.png", encode(scene(900, 300), "PNG"))])[0])
    assert found.pixels.shape == (5, SIZE, SIZE, 3)
    assert found.regions[0] is None
    assert found.regions[1] == Region(0.0, 0.0, pytest.approx(1 / 3), 1.0)


def test_truncated_file_comes_with_a_warning(shared: DecodePool, tmp_path: Path) -> None:
    data = jpeg()
    found = decoded(run(shared, [write(tmp_path, "a.jpg", data[: int(len(data) * 0.8)])])[0])
    assert found.warning is not None
    assert found.warning.startswith("truncated: ")


def test_known_content_is_not_decoded(shared: DecodePool, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jpg")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=32).digest()
    found = decoded(run(shared, [path], known_hashes=frozenset({digest, bytes(32)}))[0])
    assert (found.known, found.content_hash, len(found.pixels), found.metadata) == (True, digest, 0, None)


def test_many_known_hashes_do_not_block_the_pipes(shared: DecodePool, tmp_path: Path) -> None:
    many = frozenset(i.to_bytes(32, "big") for i in range(20_000))
    paths = [write(tmp_path, f"{i}.png", encode(scene(1200, 120, i), "PNG")) for i in range(6)]
    assert all(len(decoded(outcome).pixels) > 12 for outcome in run(shared, paths, known_hashes=many))


def test_any_name_is_read(shared: DecodePool, tmp_path: Path) -> None:
    names = [b"bad\xff.jpg", b"new\nline.jpg", b"\x1b[31m.jpg", b"-rf.jpg", b" .jpg", b"x" * 251 + b".jpg"]
    paths = [Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))) for name in names]
    for path in paths:
        path.write_bytes(jpeg())
    assert [os.fsencode(path) for path in paths] == [decoded(outcome).path for outcome in run(shared, paths)]


def test_results_do_not_wait_for_nothing(shared: DecodePool) -> None:
    start = time.monotonic()
    assert shared.results(5) == []
    assert time.monotonic() - start < 0.5


def test_results_wait_no_longer_than_asked(tmp_path: Path) -> None:
    with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
        pool.submit(DecodeTask(0, os.fsencode(write(tmp_path, "hang.jpg"))))
        start = time.monotonic()
        assert pool.results(0.3) == []
        assert 0.25 < time.monotonic() - start < 1.5


def test_results_return_when_something_else_has_happened(tmp_path: Path) -> None:
    with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
        pool.submit(DecodeTask(0, os.fsencode(write(tmp_path, "hang.jpg"))))
        threading.Timer(0.2, pool.wake).start()
        start = time.monotonic()
        assert pool.results(10) == []
        assert time.monotonic() - start < 5


# --- files that are no files ----------------------------------------------------------------------------


def test_what_is_no_regular_file_never_hangs(shared: DecodePool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        listener.bind("socket.jpg")
    finally:
        os.chdir(here)
    start = time.monotonic()
    names = ["fifo.jpg", "folder.jpg", "zero.jpg", "socket.jpg"]
    outcomes = run(shared, [tmp_path / name for name in names], 10)
    listener.close()
    assert [failure(outcome).reason for outcome in outcomes] == ["not a regular file"] * 4
    assert time.monotonic() - start < 2


def test_missing_file_has_vanished(shared: DecodePool, tmp_path: Path) -> None:
    found = failure(run(shared, [tmp_path / "gone.jpg"])[0])
    assert (found.vanished, found.stat) == (True, None)
    assert failure(run(shared, [write(tmp_path, "a.jpg") / "b.jpg"])[0]).vanished


def test_link_to_itself_has_a_reason(shared: DecodePool, tmp_path: Path) -> None:
    (tmp_path / "me.jpg").symlink_to("me.jpg")
    assert failure(run(shared, [tmp_path / "me.jpg"])[0]).reason == "too many levels of symbolic links"


def test_failures_keep_the_stat_for_the_next_run(shared: DecodePool, tmp_path: Path) -> None:
    empty, text = write(tmp_path, "a.jpg", b""), write(tmp_path, "b.jpg", b"hello, this is text" * 99)
    broken = write(tmp_path, "c.png", encode(scene(), "PNG")[:60])
    outcomes = [failure(outcome) for outcome in run(shared, [empty, text, broken])]
    assert [outcome.reason for outcome in outcomes][:2] == ["empty file", "not an image"]
    for path, outcome in zip([empty, text, broken], outcomes, strict=True):
        assert outcome.stat is not None
        assert outcome.stat.inode == path.stat().st_ino
        assert not outcome.transient


def test_file_over_the_limit_is_not_read(shared: DecodePool, tmp_path: Path) -> None:
    path = write(tmp_path, "sparse.jpg")
    os.truncate(path, 2**40)
    start = time.monotonic()
    assert failure(run(shared, [path])[0]).reason == "too large (a file of 1,099.5 GB)"
    assert time.monotonic() - start < 1


def test_large_file_that_is_no_picture_is_not_read_either(shared: DecodePool, tmp_path: Path) -> None:
    path = write(tmp_path, "zeros.jpg", b"\0")
    os.truncate(path, 2 * 2**30)
    start = time.monotonic()
    assert failure(run(shared, [path])[0]).reason == "not an image"
    assert time.monotonic() - start < 1


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_unreadable_file_is_a_failure_until_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jpg")
    path.chmod(0)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            sandbox.read_file(os.fsencode(path), DecodeLimits())
        except sandbox.FileProblem as problem:
            os._exit(0 if problem.reason == "permission denied" and not problem.transient else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_errors_of_the_system_are_transient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.fsencode(write(tmp_path, "a.jpg"))
    for code, reason, transient in (
        (errno.EMFILE, "too many open files", True),
        (errno.EIO, "input/output error", True),
        (errno.EACCES, "permission denied", False),
    ):

        def refuse(*_: object, code: int = code, **__: object) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(sandbox.os, "open", refuse)
            with pytest.raises(sandbox.FileProblem) as caught:
                sandbox.read_file(path, DecodeLimits())
        assert (caught.value.reason, caught.value.transient) == (reason, transient)
        assert caught.value.stat is not None
        assert caught.value.stat[0] == os.path.getsize(path)


def test_out_of_descriptors_is_transient(tmp_path: Path) -> None:
    path = os.fsencode(write(tmp_path, "a.jpg"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, before[1])
        )
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(sandbox.FileProblem, match="too many open files") as caught:
            sandbox.read_file(path, DecodeLimits())
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.transient


# --- files that do not hold still -----------------------------------------------------------------------


def test_file_that_changed_while_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.jpg")
    changes = iter([b"one", b"two"])
    original = sandbox._reject_early

    def meddle(head: bytes, name: bytes, stat: sandbox.Stat) -> None:
        original(head, name, stat)
        if (more := next(changes, None)) is not None:
            path.write_bytes(path.read_bytes() + more)

    monkeypatch.setattr(sandbox, "_reject_early", meddle)
    data, stat = sandbox.read_file(os.fsencode(path), DecodeLimits())
    assert data == path.read_bytes()
    assert data.endswith(b"onetwo")
    assert stat[0] == len(data)


def test_file_that_never_holds_still_is_transient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.jpg")
    original = sandbox._reject_early

    def meddle(head: bytes, name: bytes, stat: sandbox.Stat) -> None:
        original(head, name, stat)
        os.truncate(path, path.stat().st_size - 1)

    monkeypatch.setattr(sandbox, "_reject_early", meddle)
    with pytest.raises(sandbox.FileProblem, match="changing while it was read") as caught:
        sandbox.read_file(os.fsencode(path), DecodeLimits())
    assert caught.value.transient


def test_file_replaced_while_read_gives_one_state_or_the_other(shared: DecodePool, tmp_path: Path) -> None:
    path, contents = tmp_path / "a.jpg", [jpeg(scene(seed=i)) for i in range(2)]
    path.write_bytes(contents[0])
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            write(tmp_path, "new", contents[turn % 2]).replace(path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        outcomes = run(shared, [path] * 40)
    finally:
        stop.set()
        thread.join()
    whole = {hashlib.blake2b(content, digest_size=32).digest() for content in contents}
    for outcome in outcomes:
        if isinstance(outcome, Decoded):
            assert outcome.content_hash in whole
        else:
            assert outcome.transient


# --- decoders that misbehave ----------------------------------------------------------------------------


def test_crash_costs_one_file(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(6)] + ["segv.jpg", "exit.jpg"] + [f"{i}.jpg" for i in range(6, 12)]
    with DecodePool(Preprocess(SIZE), workers=2, decoder=MISBEHAVING) as pool:
        outcomes = run(pool, [write(tmp_path, name) for name in names])
        assert wait_until(lambda: len(pool.worker_pids) == 2, 5)
    for name, outcome in zip(names, outcomes, strict=True):
        if name.startswith("segv"):
            assert failure(outcome).reason == "decoder crashed (SIGSEGV)"
        elif name.startswith("exit"):
            assert failure(outcome).reason == "decoder crashed (exit code 7)"
        else:
            decoded(outcome)
    crash = failure(outcomes[6])
    assert crash.stat is not None
    assert not crash.transient


def test_hang_costs_one_file_and_its_limit(tmp_path: Path) -> None:
    limits = DecodeLimits(wall_s=1.5)
    names = ["hang.jpg"] + [f"{i}.jpg" for i in range(8)]
    with DecodePool(Preprocess(SIZE), workers=2, limits=limits, decoder=MISBEHAVING) as pool:
        start = time.monotonic()
        outcomes = run(pool, [write(tmp_path, name) for name in names])
        assert time.monotonic() - start < 8
    assert failure(outcomes[0]).reason == "timeout after 1.5 s"
    assert not failure(outcomes[0]).transient
    assert failure(outcomes[0]).stat is not None
    assert all(isinstance(outcome, Decoded) for outcome in outcomes[1:])


def test_processor_time_is_limited(tmp_path: Path) -> None:
    limits = DecodeLimits(cpu_s=0.5, wall_s=60)
    with DecodePool(Preprocess(SIZE), workers=1, limits=limits, decoder=MISBEHAVING) as pool:
        outcomes = run(pool, [write(tmp_path, name) for name in ("spin.jpg", "a.jpg")])
    assert failure(outcomes[0]).reason == "timeout after 0.5 s of processor time"
    decoded(outcomes[1])


def test_processor_time_is_counted_per_file(tmp_path: Path) -> None:
    data = jpeg(scene(2000, 1500))
    paths = [write(tmp_path, f"{i}.jpg", data) for i in range(20)]
    with DecodePool(Preprocess(SIZE), workers=1, limits=DecodeLimits(cpu_s=0.4)) as pool:
        assert all(isinstance(outcome, Decoded) for outcome in run(pool, paths))


def test_memory_is_limited(tmp_path: Path) -> None:
    with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
        outcomes = run(pool, [write(tmp_path, name) for name in ("greedy.jpg", "a.jpg")])
    assert failure(outcomes[0]).reason == "too large (not enough memory)"
    decoded(outcomes[1])


def test_any_exception_and_any_output_is_one_file(tmp_path: Path) -> None:
    names = ["raise.jpg", "noise.jpg", "a.jpg"]
    with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
        outcomes = run(pool, [write(tmp_path, name) for name in names])
    assert failure(outcomes[0]).reason == "decoder failed: RuntimeError: a decoder's own type of error"
    decoded(outcomes[1])
    decoded(outcomes[2])


def test_decoder_cannot_write_files(tmp_path: Path) -> None:
    with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
        found = failure(run(pool, [write(tmp_path, "writes.jpg")])[0])
    assert "File too large" in found.reason or "SIGXFSZ" in found.reason
    Path(os.environ.get("TMPDIR", "/tmp") + "/pixseek-decoder-wrote").unlink(missing_ok=True)


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_decoder_has_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"connect-{server.getsockname()[1]}.jpg"
        with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
            found = failure(run(pool, [write(tmp_path, name)])[0])
    assert found.reason.startswith("decoder failed: ")


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_decoder_cannot_start_programs(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    with DecodePool(Preprocess(SIZE), workers=1, decoder=MISBEHAVING) as pool:
        outcomes = run(
            pool, [write(tmp_path, "program.jpg", jpeg() + os.fsencode(marker)), write(tmp_path, "a.jpg")]
        )
    assert not marker.exists()
    assert "Operation not permitted" in failure(outcomes[0]).reason
    decoded(outcomes[1])


def test_killed_worker_costs_nothing(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{i}.jpg", jpeg(scene(640, 480)) + bytes(i)) for i in range(30)]
    with DecodePool(Preprocess(SIZE), workers=2) as pool:
        for token, path in enumerate(paths):
            pool.submit(DecodeTask(token, os.fsencode(path)))
        assert wait_until(lambda: len(pool.worker_pids) == 2, 20)
        found = pool.results(30)
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while pool.outstanding and time.monotonic() < deadline:
            found += pool.results(1)
    assert sorted(decoded(outcome).token for outcome in found) == list(range(30))


def test_broken_installation_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with DecodePool(Preprocess(SIZE), workers=1, decoder="no_such_module:decode") as pool:
        pool.submit(DecodeTask(0, os.fsencode(write(tmp_path, "a.jpg"))))
        with pytest.raises(WorkerStartError, match=r"do not start \(ModuleNotFoundError: .*no_such_module"):
            pool.results(60)


# --- the end --------------------------------------------------------------------------------------------


def test_close_is_quick_and_leaves_nothing(tmp_path: Path) -> None:
    pool = DecodePool(Preprocess(SIZE), workers=2, decoder=MISBEHAVING)
    for token in range(6):
        pool.submit(DecodeTask(token, os.fsencode(write(tmp_path, f"hang{token}.jpg"))))
    assert wait_until(lambda: len(pool.worker_pids) == 2, 20)
    pids = pool.worker_pids
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 2
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(ValueError, match="closed"):
        pool.submit(DecodeTask(9, b"x"))


PARENT = """
import os, sys, time
from encoders.base import Preprocess
from indexer.workers import DecodePool, DecodeTask
if __name__ == "__main__":
    pool = DecodePool(Preprocess(64), workers=2, decoder="tests.indexer.pictures:misbehaving")
    for i in range(4):
        pool.submit(DecodeTask(i, os.fsencode(sys.argv[1])))
    while len(pool.worker_pids) < 2:
        time.sleep(0.05)
    time.sleep(1.0)
    print(*pool.worker_pids, flush=True)
    pool.results(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_parent_leaves_no_worker(tmp_path: Path, number: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(write(tmp_path, "spin.jpg"))],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.send_signal(number)
        parent.wait()
        assert wait_until(lambda: not any(alive(pid) for pid in pids), 2)


def test_workers_ignore_ctrl_c_and_hold_no_descriptors_of_the_parent(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as lock, DecodePool(Preprocess(SIZE), workers=1) as pool:
        os.set_inheritable(lock.fileno(), True)
        decoded(run(pool, [write(tmp_path, "a.jpg")])[0])
        pid = pool.worker_pids[0]
        assert os.getsid(pid) != os.getsid(0)
        os.kill(pid, signal.SIGINT)
        if sys.platform == "linux":
            held = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            assert not any("lock" in name for name in held)
        decoded(run(pool, [write(tmp_path, "b.jpg")])[0])
        assert pool.worker_pids == [pid]


def test_pictures_have_no_thumbprint_of_their_neighbours(shared: DecodePool, tmp_path: Path) -> None:
    """Return each file's own pixels, whichever worker took it."""
    paths = [
        write(tmp_path, f"{i}.png", encode(Image.new("RGB", (90, 90), (i, 0, 255 - i)), "PNG"))
        for i in range(60)
    ]
    for i, outcome in enumerate(run(shared, paths)):
        assert decoded(outcome).pixels[0, 30, 30].tolist() == [i, 0, 255 - i]
