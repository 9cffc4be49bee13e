"""A run told to stop: what is committed stays, the exit code names the signal, the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Pixseek, draw

FILES = 400


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    for number in range(FILES):
        draw(folder / f"{number:03d}.png", "red", (16, 16), mark=number + 1)
    return folder


def default_signals() -> None:
    """A shell that runs us in the background may have us ignore SIGINT."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start_slow(pixseek: Pixseek, folder: Path, **environ: str) -> subprocess.Popen[bytes]:
    """Start an index run of many seconds and return when something was committed."""
    process = pixseek.start(
        "index",
        folder,
        environ={"COLOR_DELAY_S": "0.7", **environ},
        stderr=subprocess.PIPE,
        preexec_fn=default_signals,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (pixseek.index / "catalog.sqlite").exists() and committed(pixseek):
            return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"nothing was committed: {process.communicate()[1].decode()}")


def committed(pixseek: Pixseek) -> int:
    done = pixseek("status", "--json", exits=None)
    return int(json.loads(done.stdout)["files"]) if done.returncode == 0 else 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_a_signal_keeps_what_is_committed_and_the_next_run_goes_on(
    pixseek: Pixseek, many: Path, number: signal.Signals, code: int
) -> None:
    process = start_slow(pixseek, many)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said.decode()
    assert b"done; run the same command again to go on" in said
    assert b"Traceback" not in said
    kept = committed(pixseek)
    assert 0 < kept < FILES
    report = json.loads(pixseek("index", many, "--json").stdout)
    assert (report["unchanged"], report["indexed"]) == (kept, FILES - kept)
    assert json.loads(pixseek("check", "--json").stdout)["ok"]


def test_a_second_signal_leaves_within_a_second(pixseek: Pixseek, many: Path) -> None:
    process = start_slow(pixseek, many)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    process.wait(timeout=30)
    assert time.monotonic() - started < 1.5
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said.decode()
    assert b"Traceback" not in said
    assert json.loads(pixseek("check", "--json").stdout)["ok"]
    assert json.loads(pixseek("index", many, "--json").stdout)["failed"] == 0


def test_a_signal_does_not_wait_until_an_encoder_is_measured(pixseek: Pixseek, many: Path) -> None:
    process = start_slow(pixseek, many, COLOR_PREPARES_AFTER="96")
    time.sleep(4 * 0.7)  # by now it prepares
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - started < 3
    assert process.returncode == 130, said.decode()
    assert b"96 of 400 done; run the same command again to go on" in said
    assert json.loads(pixseek("check", "--json").stdout)["ok"]
    assert json.loads(pixseek("index", many, "--json").stdout)["unchanged"] == 96


def test_a_signal_does_not_wait_until_an_encoder_is_loaded(pixseek: Pixseek, many: Path) -> None:
    process = pixseek.start(
        "index", many, environ={"COLOR_LOAD_S": "60"}, stderr=subprocess.PIPE, preexec_fn=default_signals
    )
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=3)
    assert process.returncode == 143
    assert said == b"pixseek: stopped; run the same command again to go on\n"
    assert not pixseek.index.exists()


def test_kill_loses_nothing_that_was_committed(pixseek: Pixseek, many: Path) -> None:
    process = start_slow(pixseek, many)
    kept = committed(pixseek)
    process.kill()
    process.communicate(timeout=30)
    report = json.loads(pixseek("index", many, "--json").stdout)
    assert report["unchanged"] >= kept
    assert report["unchanged"] + report["indexed"] == FILES


def test_ctrl_c_stops_waiting_for_another_process(indexed: Pixseek, photos: Path) -> None:
    import fcntl

    with (indexed.index / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = indexed.start(
            "index",
            photos,
            "--wait",
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        assert b"waiting for" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        process.stderr.close()


def test_nohup_is_respected(pixseek: Pixseek, photos: Path) -> None:
    process = pixseek.start(
        "index",
        photos,
        environ={"COLOR_DELAY_S": "0.5"},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    time.sleep(0.6)
    os.kill(process.pid, signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
