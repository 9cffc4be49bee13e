"""The figures of the page: what they show, drawn in the peers' environment, where matplotlib is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.benchmarks.suite import environments
from tests.benchmarks.suite.results import Spread, Store, spread_of
from tests.benchmarks.suite.settings import Sizes
from tests.benchmarks.suite.wording import NAMES, TITLES


def draw(sizes: Sizes, store: Store, folder: Path) -> None:
    """Draw the figures in the peers' environment, where matplotlib is; without it the page has none."""
    python = environments.python_of("peers")
    if not python.exists():
        print("no figures: the peers' environment is not there yet")
        return
    data = sizes.home / "figures.json"
    data.write_text(json.dumps(figures(sizes, store)))
    script = Path(__file__).parent / "peers" / "plots.py"
    done = subprocess.run([python, script, data, folder], check=False)
    if done.returncode:
        print("no figures: drawing them failed")


def figures(sizes: Sizes, store: Store) -> dict[str, Any]:
    """Return what the figures show: bars of rates, lines of seconds by size, points of recall and time."""

    def middle(found: Spread | None) -> float | None:
        return found.median if found else None

    bars = {
        f"{sizes.pictures[name]:,} {title}": {
            NAMES[who]: middle(spread_of(store.rounds_of(f"indexing-{name}"), who, "rate"))
            for who in ("pixseek", "rclip", "plain")
        }
        for name, title in TITLES.items()
        if store.rounds_of(f"indexing-{name}")
    }
    lines: dict[str, list[tuple[int, float]]] = {}

    def line(title: str, prefix: str, who: str, *fields: str, scale: float = 1.0) -> None:
        points = [
            (count, middle(spread_of(store.rounds_of(f"{prefix}-{count}"), who, *fields)))
            for count in store.sizes_of(prefix)
        ]
        there = [(count, value * scale) for count, value in points if value]
        if there:
            lines[title] = there

    line("rclip -n, one process", "cold", "rclip", "wall_s")
    line("pixseek search, one process", "cold", "pixseek", "wall_s")
    line("pixseek search, its helper running", "cold", "helper", "wall_s")
    line("rclip, re-index, nothing changed", "reindex", "rclip", "wall_s")
    line("pixseek index, nothing changed", "reindex", "pixseek", "wall_s")
    line("pixseek status", "open", "pixseek", "wall_s")
    built = [
        (count, (store.read(f"snapshot-{count}") or {}).get("wall_s")) for count in store.sizes_of("open")
    ]
    if any(value for _, value in built):
        lines["pixseek, snapshot written"] = [(count, value) for count, value in built if value]
    line("pixseek, nearest, warm", "warm", "pixseek", "texts", "p50_ms", scale=0.001)
    line("pixseek, nearest, asked exactly", "warm", "pixseek-exact", "texts", "p50_ms", scale=0.001)
    floors = [
        (count, (store.read(f"floor-{count}") or {}).get("read_s")) for count in store.sizes_of("floor")
    ]
    if any(value for _, value in floors):
        lines["memory read once by all cores"] = [(count, value) for count, value in floors if value]
    points = {}
    largest = [count for count in store.sizes_of("warm") if count <= 1_000_000]
    if largest:
        rounds = store.rounds_of(f"warm-{largest[-1]}")
        for name in dict.fromkeys(name for one in rounds for name in one):
            points[NAMES[name]] = {
                kind: [middle(spread_of(rounds, name, kind, field)) for field in ("p50_ms", "recall")]
                for kind in ("texts", "pictures")
                if spread_of(rounds, name, kind, "p50_ms")
            }
    return {"bars": bars, "lines": lines, "points": points, "points_of": largest[-1] if largest else 0}
