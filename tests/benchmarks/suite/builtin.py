"""The built-in encoder: its rate beside ViT-B/32 in one process, and that of whole `index` commands."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from tests.benchmarks.suite import machine, pictures
from tests.benchmarks.suite.results import Round, Store
from tests.benchmarks.suite.settings import Sizes


def measure(sizes: Sizes, store: Store) -> None:
    """Measure the encoder, then indexing with it."""
    if sizes.name == "full":
        store.once("builtin-rate", _rate)
    for name, count in sizes.pictures.items():
        folder = pictures.make(name, sizes)

        def once(number: int, folder=folder, count=count) -> Round:  # type: ignore[no-untyped-def]
            index = sizes.home / "indexing" / "builtin"
            shutil.rmtree(index, ignore_errors=True)
            ran = machine.pixseek(
                "index", folder, "--index", index, "--encoder", "builtin", "--json", accept=(0, 3)
            )
            return {"builtin": {**ran.numbers(), "rate": count / ran.wall_s}}

        store.rounds(f"builtin-{name}", sizes.slow_rounds, once)
    print("built-in encoder: done", flush=True)


def _rate() -> dict[str, Any]:
    ran = machine.run(
        [sys.executable, "-m", "tests.benchmarks.builtin_rate"], environ=machine.pixseek_environ()
    )
    return {"said": ran.stdout.strip().splitlines()}
