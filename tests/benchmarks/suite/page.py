"""docs/benchmarks.md: the part between its markers is written from the results, the rest by people."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.suite import environments, pictures, weights
from tests.benchmarks.suite.results import Round, Spread, Store, ratios, spread
from tests.benchmarks.suite.settings import ROOT, Sizes

BEGIN, END = "<!-- measured: written by make bench -->", "<!-- end of what was measured -->"
PAGE, FIGURES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks"
_TITLES = {
    "12mp": "JPEGs of 12 megapixels",
    "small": "photos of 200 to 500 pixels",
    "formats": "PNG and HEIC",
}
_NAMES = {
    "pixseek": "pixseek",
    "pixseek-exact": "pixseek, asked exactly",
    "rclip": "rclip 3.3.0",
    "plain": "plain loop",
    "faiss-flat": "FAISS flat fp16",
    "usearch-f16": "usearch HNSW f16",
    "usearch-i8": "usearch HNSW i8",
    "hnswlib": "hnswlib HNSW f32",
    "sqlite-vec": "sqlite-vec f32",
    "lancedb-ivf-pq": "LanceDB IVF_PQ, refined",
    "lancedb-hnsw-sq": "LanceDB IVF_HNSW_SQ, refined",
}


def write(sizes: Sizes, store: Store) -> None:
    """Write the page of a full run, or print that of a quick one; figures where matplotlib is."""
    text = generated(sizes, store)
    if sizes.name != "full":
        print(text)
        (sizes.home / "page.md").write_text(text)
        draw(sizes, store, sizes.home / "figures")
        return
    PAGE.write_text(replaced(PAGE.read_text() if PAGE.exists() else f"{BEGIN}\n{END}\n", text))
    draw(sizes, store, FIGURES)
    print(f"written: {PAGE}")


def replaced(page: str, text: str) -> str:
    """Return a page with what stands between its markers replaced.

    Raises:
        ValueError: the page does not have both markers, once each and in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise ValueError(f"the page needs one line {BEGIN} and after it one line {END}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{rest.split(END)[1]}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def generated(sizes: Sizes, store: Store) -> str:
    """Return all tables of what was measured; what was not is left out."""
    sections = [
        _machine(store),
        _goals(sizes, store),
        _indexing(sizes, store),
        _cold(store),
        _warm(store),
        _upkeep(store),
        _builtin(sizes, store),
    ]
    return "\n\n".join(section for section in sections if section)


def _rounds(store: Store, key: str) -> list[Round]:
    kept = store.read(key)
    return kept["rounds"] if kept else []


def _sizes_of(store: Store, prefix: str) -> list[int]:
    found_keys = store.keys()
    found = (key.removeprefix(f"{prefix}-") for key in found_keys if key.startswith(f"{prefix}-"))
    return sorted(int(rows) for rows in found if rows.isdigit())


def _of(rounds: list[Round], name: str, *fields: str) -> Spread | None:
    """Return the spread over rounds of a number, found by the names that lead to it."""
    found = []
    for one in rounds:
        value: Any = one
        for field in (name, *fields):
            value = value.get(field) if isinstance(value, dict) else None
        if value is not None:
            found.append(value)
    return spread(found) if found else None


def _shown(number: Spread | None, form: str = "{:.1f}", *, ends: bool = True) -> str:
    if number is None:
        return "-"
    middle = form.format(number.median)
    if not ends or number.least == number.most:
        return middle
    return f"{middle} ({form.format(number.least)} to {form.format(number.most)})"


def _failed(rounds: list[Round], name: str) -> str | None:
    return next((one[name]["failed"] for one in rounds if one.get(name, {}).get("failed")), None)


# -- sections


def _machine(store: Store) -> str:
    kept = store.read("machine")
    if not kept:
        return ""
    peers: dict[str, str] = {}
    for key in ("environment-rclip", "environment-peers"):
        peers |= (store.read(key) or {}).get("found", {})
    versions = ", ".join(f"{name} {said}" for name, said in {**kept["versions"], **peers}.items())
    return (
        f"Measured on {time.strftime('%Y-%m-%d')}: {kept['cpu']}, {kept['cores']} cores "
        f"({', '.join(kept['flags'])}), {kept['memory_gb']} GB, {kept['system']}, Python {kept['python']}; "
        f"{versions}. Code {store.revision}. Numbers are medians of rounds in which all took turns, with the "
        "least and the most; a ratio is the median of the ratios of each round."
    )


def _goals(sizes: Sizes, store: Store) -> str:
    rows = []

    def goal(
        what: str, wanted: str, reached: Spread | float | None, good: bool, form: str = "{:.2f}"
    ) -> None:
        if reached is not None:
            shown = _shown(reached, form) if isinstance(reached, Spread) else form.format(reached)
            rows.append((what, wanted, shown, "yes" if good else "**no**"))

    for name, wanted in (("12mp", 3.0), ("small", 1.8)):
        rounds = _rounds(store, f"indexing-{name}")
        ratio = ratios(rounds, "pixseek", "rclip", "rate")
        goal(
            f"indexing {_TITLES[name]}: times rclip's rate", f">= {wanted}", ratio,
            bool(ratio and ratio.median >= wanted),
        )  # fmt: skip
        worst, overlap = (_of(rounds, "pixseek", "quality", field) for field in ("cosine_worst", "overlap"))
        goal(
            "... its worst cosine with float32",
            ">= 0.99",
            worst,
            bool(worst and worst.least >= 0.99),
            "{:.4f}",
        )
        goal("... top-10 overlap", ">= 0.95", overlap, bool(overlap and overlap.least >= 0.95), "{:.3f}")
    for count, most in ((10_000, 1.0), (1_000_000, 1.5)):
        rounds = _rounds(store, f"cold-{count}")
        wall, peak = _of(rounds, "pixseek", "wall_s"), _of(rounds, "pixseek", "peak_mb")
        goal(f"cold search of {count:,}, s", f"<= {most}", wall, bool(wall and wall.median <= most))
        if count == 1_000_000:
            goal("... its memory, MB", "<= 1300", peak, bool(peak and peak.most <= 1300), "{:.0f}")
            ratio = ratios(rounds, "rclip", "pixseek", "wall_s")
            goal("... times faster than rclip", ">= 8", ratio, bool(ratio and ratio.median >= 8), "{:.1f}")
    rounds = _rounds(store, "warm-1000000")
    exact = "pixseek-exact" if _of(rounds, "pixseek-exact", "texts", "p50_ms") else "pixseek"
    floor = store.read("floor-1000000")
    p50 = _of(rounds, exact, "texts", "p50_ms")
    if floor and p50:
        over = p50.median / 1000 / floor["read_s"]
        goal("exact search of 1,000,000: times the memory floor", "<= 1.3", over, over <= 1.3)
    for kind in ("texts", "pictures"):
        recall, ms = _of(rounds, "pixseek", kind, "recall"), _of(rounds, "pixseek", kind, "p50_ms")
        if recall and ms:
            good = recall.median >= 0.98 and ms.median <= 5
            rows.append(
                (f"1,000,000, {kind}: recall@10 and ms", ">= 0.98, < 5 ms where approximate",
                 f"{recall.median:.3f}, {_shown(ms, '{:.2f}', ends=False)} ms", "yes" if good else "**no**")
            )  # fmt: skip
    return "### Goals\n\n" + table(("what", "wanted", "measured", "reached"), rows) if rows else ""


def _indexing(sizes: Sizes, store: Store) -> str:
    parts = []
    limits = store.read("limits-gemm") or {}
    cores = (store.read("machine") or {}).get("cores", 1)
    for name, title in _TITLES.items():
        rounds = _rounds(store, f"indexing-{name}")
        if not rounds:
            continue
        rows = []
        for who in ("pixseek", "rclip", "plain"):
            if not any(who in one for one in rounds):
                continue
            if why := _failed(rounds, who):
                rows.append((_NAMES[who], f"failed: {why[:160]}", *[""] * 7))
                continue
            ratio = ratios(rounds, "pixseek", who, "rate") if who != "pixseek" else None
            last = next(one[who] for one in rounds if who in one)
            rows.append(
                (
                    _NAMES[who],
                    _shown(_of(rounds, who, "rate")),
                    _shown(ratio, "{:.2f}") if ratio else "",
                    _shown(_of(rounds, who, "busy"), "{:.0%}", ends=False),
                    _shown(_of(rounds, who, "peak_mb"), "{:.0f}", ends=False),
                    f"{last['done']:,} of {last['of']:,}",
                    _shown(_of(rounds, who, "quality", "cosine_worst"), "{:.4f}", ends=False),
                    _shown(_of(rounds, who, "quality", "cosine_median"), "{:.5f}", ends=False),
                    _shown(_of(rounds, who, "quality", "overlap"), "{:.3f}", ends=False),
                )
            )
        head = (
            "",
            "pictures/s",
            "pixseek's rate over it",
            "cores busy",
            "MB of the largest process",
            "indexed",
            "cosine, worst",
            "cosine, median",
            "top-10 overlap",
        )
        text = f"#### {sizes.pictures[name]:,} {title}\n\n{table(head, rows)}"
        decode = store.read(f"indexing-{name}-decode")
        reached = _of(rounds, "pixseek", "rate")
        if decode and reached and any(kind in limits for kind in ("fp32", "bf16", "int8")):
            said = []
            for kind in ("fp32", "bf16", "int8"):
                if kind in limits:
                    most = 1 / (decode["decode_ms"] / 1000 / cores + weights.GFLOP / limits[kind])
                    said.append(f"{kind} {most:.0f}/s (reached: {reached.median / most:.0%})")
            text += (
                f"\n\nThe machine's limit, decoding {decode['decode_ms']:.1f} ms of one core a picture, then "
                f"the tower's {weights.GFLOP} GFLOP at the peak of a matrix product: {', '.join(said)}."
            )
        spread_ = _of(rounds, "pixseek", "quality", "spread")
        if spread_:
            text += f" Two different pictures have a median cosine of {1 - spread_.median:.4f} here."
        parts.append(text)
    if not parts:
        return ""
    peaks = ", ".join(f"{kind} {limits[kind]:.0f}" for kind in ("fp32", "bf16", "int8") if kind in limits)
    first = store.read("indexing-first-use")
    intro = f"### Indexing with ViT-B-32-256\n\nMade of {pictures.source_name()}. "
    intro += f"Peak of a matrix product on all cores, GFLOP/s: {peaks}. " if peaks else ""
    if first:
        intro += (
            f"First use of an encoder (export, checks, choice of a runtime, 16 pictures): "
            f"{first['first']['wall_s']:.0f} s and {first['first']['peak_mb']:,.0f} MB; "
            f"the same command on a new index afterwards {first['again']['wall_s']:.1f} s."
        )
    return intro + "\n\n![pictures a second](benchmarks/indexing.png)\n\n" + "\n\n".join(parts)


def _cold(store: Store) -> str:
    rows = []
    for count in _sizes_of(store, "cold"):
        rounds = _rounds(store, f"cold-{count}")
        rows.append(
            (
                f"{count:,}",
                _shown(_of(rounds, "pixseek", "wall_s"), "{:.2f}"),
                _shown(_of(rounds, "pixseek", "peak_mb"), "{:.0f}", ends=False),
                _failed(rounds, "rclip") or _shown(_of(rounds, "rclip", "wall_s"), "{:.2f}"),
                _shown(_of(rounds, "rclip", "peak_mb"), "{:.0f}", ends=False),
                _shown(ratios(rounds, "rclip", "pixseek", "wall_s")),
            )
        )
    head = ("pictures", "pixseek, s", "MB", "rclip -n, s", "MB", "rclip's time over pixseek's")
    text = "### One question, one process\n\n![seconds by size](benchmarks/scaling.png)\n\n"
    return text + table(head, rows) if rows else ""


def _warm(store: Store) -> str:
    parts = []
    for count in _sizes_of(store, "warm"):
        rounds = _rounds(store, f"warm-{count}")
        floor = store.read(f"floor-{count}")
        names = list(dict.fromkeys(name for one in rounds for name in one))
        rows = []
        for name in sorted(names, key=list(_NAMES).index):
            if why := _failed(rounds, name):
                rows.append((_NAMES[name], f"failed: {why[:160]}", *[""] * 8))
                continue
            row = [_NAMES[name]]
            for kind in ("texts", "pictures"):
                row.append(
                    " / ".join(
                        _shown(_of(rounds, name, kind, f"p{p}_ms"), "{:.2f}", ends=False)
                        for p in (50, 95, 99)
                    )
                )
                row.append(_shown(_of(rounds, name, kind, "per_s"), "{:.0f}", ends=False))
                row.append(_shown(_of(rounds, name, kind, "recall"), "{:.3f}", ends=False))
            row.append(_shown(_of(rounds, name, "open_s"), "{:.2f}", ends=False))
            row.append(_shown(_of(rounds, name, "peak_mb"), "{:.0f}", ends=False))
            built = store.read(f"build-{count}-{name}") or store.read(f"snapshot-{count}") or {}
            lists = store.read(f"lists-{count}") or {}
            if name == "pixseek" and lists.get("said") == "made":
                built = lists
            if name == "pixseek-exact" or "wall_s" not in built:
                row.append("")
            else:
                row.append(f"{built['wall_s']:.0f} s, {built['cpu_s']:.0f} s, {built['peak_mb']:,.0f} MB")
            rows.append(row)
        head = (
            "",
            "texts p50 / p95 / p99, ms",
            "a second",
            "recall@10",
            "pictures p50 / p95 / p99, ms",
            "a second",
            "recall@10",
            "opened and first asked, s",
            "MB",
            "built: wall, CPU, memory",
        )
        text = f"#### {count:,} vectors\n\n"
        if floor:
            text += (
                f"All cores read the {floor['bytes'] / 1e6:,.0f} MB of float16 in "
                f"{1000 * floor['read_s']:.1f} ms ({floor['bytes'] / 1e9 / floor['read_s']:.1f} GB/s).\n\n"
            )
        text += table(head, rows)
        skipped = {
            key: why for key, why in (store.read(f"warm-{count}-skipped") or {}).items() if key != "revision"
        }
        if skipped:
            text += (
                "\n\nLeft out: " + "; ".join(f"{_NAMES[name]} ({why})" for name, why in skipped.items()) + "."
            )
        parts.append(text)
    intro = "### Nearest neighbours in a process that stays\n\n![recall and time](benchmarks/recall.png)\n\n"
    return intro + "\n\n".join(parts) if parts else ""


def _upkeep(store: Store) -> str:
    text = []
    rows = []
    for count in _sizes_of(store, "reindex"):
        rounds = _rounds(store, f"reindex-{count}")
        rows.append(
            (
                f"{count:,}",
                _shown(_of(rounds, "pixseek", "wall_s"), "{:.2f}"),
                _shown(_of(rounds, "pixseek", "peak_mb"), "{:.0f}"),
                *(
                    _failed(rounds, "rclip") or _shown(_of(rounds, "rclip", field), form)
                    for field, form in (("wall_s", "{:.2f}"), ("peak_mb", "{:.0f}"))
                ),
                _shown(ratios(rounds, "rclip", "pixseek", "wall_s")),
            )
        )  # fmt: skip
    if rows:
        head = (
            "files",
            "pixseek, s",
            "MB",
            "rclip, s (its search taken off)",
            "MB",
            "rclip's time over pixseek's",
        )
        text.append("#### A re-index with nothing changed\n\n" + table(head, rows))
    rows = []
    for count in _sizes_of(store, "open"):
        rounds, built = _rounds(store, f"open-{count}"), store.read(f"snapshot-{count}")
        lists = store.read(f"lists-{count}")
        lists = lists if lists and lists["said"] == "made" else None
        rows.append(
            (
                f"{count:,}",
                _shown(_of(rounds, "pixseek", "wall_s"), "{:.2f}"),
                _shown(_of(rounds, "pixseek", "peak_mb"), "{:.0f}", ends=False),
                f"{built['wall_s']:.1f}" if built else "-",
                f"{built['peak_mb']:,.0f}" if built else "-",
                f"{lists['wall_s']:.1f}" if lists else "-",
                f"{lists['peak_mb']:,.0f}" if lists else "-",
            )
        )
    if rows:
        head = ("pictures", "`pixseek status`, s", "MB", "snapshot written, s", "MB", "lists made, s", "MB")
        text.append("#### Opening an index, and writing its snapshot\n\n" + table(head, rows))
    return "### Upkeep\n\n" + "\n\n".join(text) if text else ""


def _builtin(sizes: Sizes, store: Store) -> str:
    rows = []
    for name, title in _TITLES.items():
        rounds = _rounds(store, f"builtin-{name}")
        if rounds:
            rows.append(
                (
                    f"{sizes.pictures[name]:,} {title}",
                    _shown(_of(rounds, "builtin", "rate")),
                    _shown(_of(rounds, "builtin", "busy"), "{:.0%}", ends=False),
                    _shown(_of(rounds, "builtin", "peak_mb"), "{:.0f}", ends=False),
                )
            )
    if not rows:
        return ""
    text = "### The built-in encoder\n\n" + table(("whole command", "pictures/s", "cores busy", "MB"), rows)
    said = (store.read("builtin-rate") or {}).get("said")
    return text + ("\n\nIn one process:\n```\n" + "\n".join(said) + "\n```" if said else "")


# -- figures


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
            _NAMES[who]: middle(_of(_rounds(store, f"indexing-{name}"), who, "rate"))
            for who in ("pixseek", "rclip", "plain")
        }
        for name, title in _TITLES.items()
        if _rounds(store, f"indexing-{name}")
    }
    lines: dict[str, list[tuple[int, float]]] = {}

    def line(title: str, prefix: str, who: str, *fields: str, scale: float = 1.0) -> None:
        points = [
            (count, middle(_of(_rounds(store, f"{prefix}-{count}"), who, *fields)))
            for count in _sizes_of(store, prefix)
        ]
        there = [(count, value * scale) for count, value in points if value]
        if there:
            lines[title] = there

    line("rclip -n, one process", "cold", "rclip", "wall_s")
    line("pixseek search, one process", "cold", "pixseek", "wall_s")
    line("rclip, re-index, nothing changed", "reindex", "rclip", "wall_s")
    line("pixseek index, nothing changed", "reindex", "pixseek", "wall_s")
    line("pixseek status", "open", "pixseek", "wall_s")
    built = [
        (count, (store.read(f"snapshot-{count}") or {}).get("wall_s")) for count in _sizes_of(store, "open")
    ]
    if any(value for _, value in built):
        lines["pixseek, snapshot written"] = [(count, value) for count, value in built if value]
    line("pixseek, nearest, warm", "warm", "pixseek", "texts", "p50_ms", scale=0.001)
    line("pixseek, nearest, asked exactly", "warm", "pixseek-exact", "texts", "p50_ms", scale=0.001)
    floors = [
        (count, (store.read(f"floor-{count}") or {}).get("read_s")) for count in _sizes_of(store, "floor")
    ]
    if any(value for _, value in floors):
        lines["memory read once by all cores"] = [(count, value) for count, value in floors if value]
    points = {}
    largest = [count for count in _sizes_of(store, "warm") if count <= 1_000_000]
    if largest:
        rounds = _rounds(store, f"warm-{largest[-1]}")
        for name in dict.fromkeys(name for one in rounds for name in one):
            points[_NAMES[name]] = {
                kind: [middle(_of(rounds, name, kind, "p50_ms")), middle(_of(rounds, name, kind, "recall"))]
                for kind in ("texts", "pictures")
                if _of(rounds, name, kind, "p50_ms")
            }
    return {"bars": bars, "lines": lines, "points": points, "points_of": largest[-1] if largest else 0}
