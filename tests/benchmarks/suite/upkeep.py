"""What is paid again and again: a re-index with nothing changed, opening a large index, writing its snapshot.

The files of the re-index exist; both catalogs are filled with what indexing them would have left there
(encoding 100,000 pictures for rclip takes two hours here), and both must find all of them unchanged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.suite import environments, libraries, machine, weights
from tests.benchmarks.suite.results import Round, Store
from tests.benchmarks.suite.settings import Sizes


def measure(sizes: Sizes, store: Store) -> None:
    """Measure re-indexing at every number of files, and the rest at every size of library."""
    weights.make()
    store.write("environment-rclip", {"found": environments.make("rclip", environments.RCLIP)})
    for files in sizes.files:
        folder, index, data = unchanged(sizes, files)
        store.rounds(
            f"reindex-{files}",
            sizes.slow_rounds,
            lambda number, files=files, folder=folder, index=index, data=data: _reindex(
                number, files, folder, index, data
            ),
        )
        print(f"re-index of {files:,} unchanged files", flush=True)
    for rows in sizes.libraries:
        index = libraries.make(sizes, rows)
        opened = store.rounds(
            f"open-{rows}",
            sizes.rounds,
            lambda number, index=index: {
                "pixseek": machine.pixseek("status", "--json", "--index", index).numbers()
            },
        )
        written = store.once(f"snapshot-{rows}", lambda index=index: _written("snapshot", index))
        store.once(f"lists-{rows}", lambda index=index: _written("lists", index))
        print(f"open {rows:,}: {len(opened)} rounds; snapshot {written['wall_s']:.1f} s", flush=True)


def _reindex(number: int, files: int, folder: Path, index: Path, data: Path) -> Round:
    result: Round = {}
    for name in ("pixseek", "rclip") if number % 2 else ("rclip", "pixseek"):
        try:
            if name == "pixseek":
                ran = machine.pixseek("index", folder, "--index", index, "--json")
                report = json.loads(ran.stdout)
                if report["unchanged"] != files:
                    raise RuntimeError(f"pixseek found {report['unchanged']:,} of {files:,} unchanged")
                result[name] = ran.numbers()
            else:
                environ = {"RCLIP_DATADIR": str(data), "HF_HUB_OFFLINE": "1"}
                command = environments.rclip_command()
                ran = machine.run([*command, "a dog"], environ=environ, cwd=folder)
                asked = machine.run([*command, "-n", "a dog"], environ=environ, cwd=folder)
                # It always asks a question after; what that takes alone is taken off.
                result[name] = {**ran.numbers(), "wall_s": max(0.01, ran.wall_s - asked.wall_s)}
        except RuntimeError as error:
            result[name] = {"failed": str(error)}
    return result


def unchanged(sizes: Sizes, files: int) -> tuple[Path, Path, Path]:
    """Return (folder of that many small photos, pixseek's index of them, rclip's data folder)."""
    home = sizes.home / "unchanged" / str(files)
    folder, index, data = home / "photos", home / "index", home / "rclip"
    if (home / ".complete").exists():
        return folder, index, data
    shutil.rmtree(home, ignore_errors=True)
    print(f"making {files:,} small files, and both catalogs of them", flush=True)
    rng = np.random.default_rng(0)
    for number in range(files):
        if number % 500 == 0:
            below = folder / f"{number // 500:04}"
            below.mkdir(parents=True)
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture.save(below / f"IMG_{number:06}.jpg", quality=85)
    subprocess.run([sys.executable, "-m", __name__, "fill", folder, index], check=True)
    weights.rclip_datadir(data)
    subprocess.run(
        [environments.python_of("rclip"), libraries._FILL, data / "db.sqlite3", folder, "FILES"], check=True
    )
    (home / ".complete").touch()
    return folder, index, data


def _fill(folder: Path, index: Path) -> None:
    """Write the index that `pixseek index FOLDER` would leave, with made-up embeddings."""
    from encoders.builtin import BuiltinEncoder
    from indexer.ledger import FileUpdate, Ledger, NewContent
    from indexer.lock import WriterLock
    from indexer.metadata import Metadata
    from indexer.records import Look
    from indexer.workers import FileStat
    from tests.benchmarks.suite.storing import write_snapshot

    encoder, rng = BuiltinEncoder(), np.random.default_rng(0)
    index.mkdir(parents=True)
    lock = WriterLock(index)
    paths = sorted(folder.resolve().rglob("*.jpg"))
    with Ledger.open_or_create(index) as ledger:
        space = ledger.set_space("builtin", encoder.fingerprint, encoder.dim, encoder.image_size)
        ledger.set_root(os.fsencode(folder.resolve()), folder.stat().st_dev)
        for start in range(0, len(paths), 10_000):
            some = paths[start : start + 10_000]
            rows = rng.standard_normal((len(some), encoder.dim))
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
            contents, files = [], []
            for place, path in enumerate(some):
                stat = FileStat.of(path.stat())
                digest = (start + place).to_bytes(32, "big")
                contents.append(
                    NewContent(
                        digest,
                        stat.size,
                        8,
                        8,
                        "JPEG",
                        None,
                        Metadata(),
                        [None],
                        rows[place : place + 1],
                        Look(int(rng.integers(0, 2**63)), 1.0),
                    )
                )
                files.append(FileUpdate(os.fsencode(path), stat, "ok", None, digest))
            ledger.commit(space, contents, files)
    lock.close()
    write_snapshot(index)


def _written(what: str, index: Path) -> dict[str, Any]:
    """Return what it costs to write the snapshot, or the lists, of an index again."""
    ran = machine.run(
        [sys.executable, "-m", "tests.benchmarks.suite.storing", what, str(index)],
        environ=machine.pixseek_environ(),
    )
    return {**ran.numbers(), "said": ran.stdout.strip()}


if __name__ == "__main__":
    _fill(Path(sys.argv[2]), Path(sys.argv[3]))
