"""docs/benchmarks.md: the part between its markers is written from the results, the rest by people."""

from __future__ import annotations

import time

from tests.benchmarks.suite import figures, goals, pictures, weights
from tests.benchmarks.suite.results import Round, Store, ratios, spread_of
from tests.benchmarks.suite.settings import ROOT, Sizes
from tests.benchmarks.suite.wording import NAMES, TITLES, shown, table

BEGIN, END = "<!-- measured: written by make bench -->", "<!-- end of what was measured -->"
PAGE, FIGURES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks"


def write(sizes: Sizes, store: Store) -> None:
    """Write the page of a full run, or print that of a quick one; figures where matplotlib is."""
    text = generated(sizes, store)
    if sizes.name != "full":
        print(text)
        (sizes.home / "page.md").write_text(text)
        figures.draw(sizes, store, sizes.home / "figures")
        return
    PAGE.write_text(replaced(PAGE.read_text() if PAGE.exists() else f"{BEGIN}\n{END}\n", text))
    figures.draw(sizes, store, FIGURES)
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


def generated(sizes: Sizes, store: Store) -> str:
    """Return all tables of what was measured; what was not is left out."""
    sections = [
        _machine(store),
        goals.goals(store),
        _indexing(sizes, store),
        _cold(store),
        _warm(store),
        _upkeep(store),
        _builtin(sizes, store),
    ]
    return "\n\n".join(section for section in sections if section)


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


def _indexing(sizes: Sizes, store: Store) -> str:
    parts = []
    limits = store.read("limits-gemm") or {}
    cores = (store.read("machine") or {}).get("cores", 1)
    for name, title in TITLES.items():
        rounds = store.rounds_of(f"indexing-{name}")
        if not rounds:
            continue
        rows = []
        for who in ("pixseek", "rclip", "plain"):
            if not any(who in one for one in rounds):
                continue
            if why := _failed(rounds, who):
                rows.append((NAMES[who], f"failed: {why[:160]}", *[""] * 7))
                continue
            ratio = ratios(rounds, "pixseek", who, "rate") if who != "pixseek" else None
            last = next(one[who] for one in rounds if who in one)
            rows.append(
                (
                    NAMES[who],
                    shown(spread_of(rounds, who, "rate")),
                    shown(ratio, "{:.2f}") if ratio else "",
                    shown(spread_of(rounds, who, "busy"), "{:.0%}", ends=False),
                    shown(spread_of(rounds, who, "peak_mb"), "{:.0f}", ends=False),
                    f"{last['done']:,} of {last['of']:,}",
                    shown(spread_of(rounds, who, "quality", "cosine_worst"), "{:.4f}", ends=False),
                    shown(spread_of(rounds, who, "quality", "cosine_median"), "{:.5f}", ends=False),
                    shown(spread_of(rounds, who, "quality", "overlap"), "{:.3f}", ends=False),
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
        reached = spread_of(rounds, "pixseek", "rate")
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
        spread_ = spread_of(rounds, "pixseek", "quality", "spread")
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
            f"First use of an encoder (export, checks, 16 pictures): {first['first']['wall_s']:.0f} s and "
            f"{first['first']['peak_mb']:,.0f} MB; "
            f"the same command on a new index afterwards {first['again']['wall_s']:.1f} s."
        )
        if first.get("runtimes"):
            intro += (
                "\n\nThe runtimes of pixseek that could run here, timed by `pixseek encoders --benchmark`:\n"
            )
            intro += "```\n" + "\n".join(first["runtimes"]) + "\n```"
    return intro + "\n\n![pictures a second](benchmarks/indexing.png)\n\n" + "\n\n".join(parts)


def _cold(store: Store) -> str:
    rows = []
    for count in store.sizes_of("cold"):
        rounds = store.rounds_of(f"cold-{count}")
        rows.append(
            (
                f"{count:,}",
                shown(spread_of(rounds, "pixseek", "wall_s"), "{:.2f}"),
                shown(spread_of(rounds, "pixseek", "peak_mb"), "{:.0f}", ends=False),
                shown(spread_of(rounds, "helper", "wall_s"), "{:.3f}"),
                _failed(rounds, "rclip") or shown(spread_of(rounds, "rclip", "wall_s"), "{:.2f}"),
                shown(spread_of(rounds, "rclip", "peak_mb"), "{:.0f}", ends=False),
                shown(ratios(rounds, "rclip", "pixseek", "wall_s")),
            )
        )
    head = (
        "pictures",
        "pixseek, s",
        "MB",
        "with its helper, s",
        "rclip -n, s",
        "MB",
        "rclip's time over pixseek's",
    )
    text = "### One question, one process\n\n![seconds by size](benchmarks/scaling.png)\n\n"
    return text + table(head, rows) if rows else ""


def _warm(store: Store) -> str:
    parts = []
    for count in store.sizes_of("warm"):
        rounds = store.rounds_of(f"warm-{count}")
        floor = store.read(f"floor-{count}")
        names = list(dict.fromkeys(name for one in rounds for name in one))
        rows = []
        for name in sorted(names, key=list(NAMES).index):
            if why := _failed(rounds, name):
                rows.append((NAMES[name], f"failed: {why[:160]}", *[""] * 8))
                continue
            row = [NAMES[name]]
            for kind in ("texts", "pictures"):
                row.append(
                    " / ".join(
                        shown(spread_of(rounds, name, kind, f"p{p}_ms"), "{:.2f}", ends=False)
                        for p in (50, 95, 99)
                    )
                )
                row.append(shown(spread_of(rounds, name, kind, "per_s"), "{:.0f}", ends=False))
                row.append(shown(spread_of(rounds, name, kind, "recall"), "{:.3f}", ends=False))
            row.append(shown(spread_of(rounds, name, "open_s"), "{:.2f}", ends=False))
            row.append(shown(spread_of(rounds, name, "peak_mb"), "{:.0f}", ends=False))
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
                "\n\nLeft out: " + "; ".join(f"{NAMES[name]} ({why})" for name, why in skipped.items()) + "."
            )
        parts.append(text)
    intro = "### Nearest neighbours in a process that stays\n\n![recall and time](benchmarks/recall.png)\n\n"
    return intro + "\n\n".join(parts) if parts else ""


def _upkeep(store: Store) -> str:
    text = []
    rows = []
    for count in store.sizes_of("reindex"):
        rounds = store.rounds_of(f"reindex-{count}")
        rows.append(
            (
                f"{count:,}",
                shown(spread_of(rounds, "pixseek", "wall_s"), "{:.2f}"),
                shown(spread_of(rounds, "pixseek", "peak_mb"), "{:.0f}"),
                *(
                    _failed(rounds, "rclip") or shown(spread_of(rounds, "rclip", field), form)
                    for field, form in (("wall_s", "{:.2f}"), ("peak_mb", "{:.0f}"))
                ),
                shown(ratios(rounds, "rclip", "pixseek", "wall_s")),
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
    for count in store.sizes_of("open"):
        rounds, built = store.rounds_of(f"open-{count}"), store.read(f"snapshot-{count}")
        lists = store.read(f"lists-{count}")
        lists = lists if lists and lists["said"] == "made" else None
        rows.append(
            (
                f"{count:,}",
                shown(spread_of(rounds, "pixseek", "wall_s"), "{:.2f}"),
                shown(spread_of(rounds, "pixseek", "peak_mb"), "{:.0f}", ends=False),
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
    for name, title in TITLES.items():
        rounds = store.rounds_of(f"builtin-{name}")
        if rounds:
            rows.append(
                (
                    f"{sizes.pictures[name]:,} {title}",
                    shown(spread_of(rounds, "builtin", "rate")),
                    shown(spread_of(rounds, "builtin", "busy"), "{:.0%}", ends=False),
                    shown(spread_of(rounds, "builtin", "peak_mb"), "{:.0f}", ends=False),
                )
            )
    if not rows:
        return ""
    text = "### The built-in encoder\n\n" + table(("whole command", "pictures/s", "cores busy", "MB"), rows)
    said = (store.read("builtin-rate") or {}).get("said")
    return text + ("\n\nIn one process:\n```\n" + "\n".join(said) + "\n```" if said else "")
