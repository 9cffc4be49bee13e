"""One question as a whole process on indexes of N pictures: `pixseek search` beside `rclip -n`.

Cold means a new process: nothing is dropped from the machine's page cache, for either. `helper` is the same
command while `pixseek serve --socket` runs and was asked before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.suite import environments, libraries, machine, weights
from tests.benchmarks.suite.results import Round, Store
from tests.benchmarks.suite.settings import ROOT, Sizes

QUESTION = "a dog on a beach"


def measure(sizes: Sizes, store: Store) -> None:
    """Measure every size, the competitors in turn."""
    weights.make()
    store.write("environment-rclip", {"found": environments.make("rclip", environments.RCLIP)})
    for rows in sizes.libraries:
        index = libraries.make(sizes, rows)
        data, photos = libraries.rclip_library(sizes, rows)
        _round(0, index, data, photos)  # the files come into the page cache, and bytecode is written
        rounds = store.rounds(
            f"cold-{rows}",
            sizes.rounds,
            lambda number, index=index, data=data, photos=photos: _round(number, index, data, photos),
        )
        print(f"cold {rows:,}: {len(rounds)} rounds", flush=True)


def _round(number: int, index: Path, data: Path, photos: Path) -> Round:
    result: Round = {}
    for name in ("pixseek", "rclip", "helper") if number % 2 else ("rclip", "helper", "pixseek"):
        try:
            if name == "rclip":
                ran = machine.run(
                    [*environments.rclip_command(), "-n", QUESTION],
                    environ={"RCLIP_DATADIR": str(data), "HF_HUB_OFFLINE": "1"},
                    cwd=photos,
                )
            elif name == "pixseek":
                ran = machine.pixseek("search", QUESTION, "--index", index)
            else:
                with _helper() as environ:
                    if environ is None:
                        continue
                    for _ in range(3):
                        ran = machine.pixseek("search", QUESTION, "--index", index, environ=environ)
            result[name] = ran.numbers()
        except RuntimeError as error:
            result[name] = {"failed": str(error)}
    return result


@contextmanager
def _helper() -> Iterator[dict[str, str] | None]:
    """Yield the environment in which a resident helper is found, None where pixseek has none."""
    if "--socket" not in machine.pixseek("serve", "--help", accept=(0, 2)).stdout:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)
        socket = Path(folder) / "socket"
        environ = {"PIXSEEK_SOCKET": str(socket), "PIXSEEK_RESIDENT": ""}
        serving = subprocess.Popen(
            [sys.executable, ROOT / "cli.py", "serve", "--socket", socket, "--idle", "300"],
            env={**os.environ, **machine.pixseek_environ(), **environ},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + 15
            while not socket.exists() and serving.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            yield environ
        finally:
            serving.terminate()
            serving.wait(30)
