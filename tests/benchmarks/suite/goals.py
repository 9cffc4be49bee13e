"""What was wanted of pixseek, and whether it was reached."""

from __future__ import annotations

from tests.benchmarks.suite.results import Spread, Store, ratios, spread_of
from tests.benchmarks.suite.wording import TITLES, shown, table


def goals(store: Store) -> str:
    """Return the table of goals that anything was measured of, or nothing."""
    rows = []

    def goal(
        what: str, wanted: str, reached: Spread | float | None, good: bool, form: str = "{:.2f}"
    ) -> None:
        if reached is not None:
            said = shown(reached, form) if isinstance(reached, Spread) else form.format(reached)
            rows.append((what, wanted, said, "yes" if good else "**no**"))

    for name, wanted in (("12mp", 3.0), ("small", 1.8)):
        rounds = store.rounds_of(f"indexing-{name}")
        ratio = ratios(rounds, "pixseek", "rclip", "rate")
        goal(
            f"indexing {TITLES[name]}: times rclip's rate", f">= {wanted}", ratio,
            bool(ratio and ratio.median >= wanted),
        )  # fmt: skip
        worst = spread_of(rounds, "pixseek", "quality", "cosine_worst")
        overlap = spread_of(rounds, "pixseek", "quality", "overlap")
        goal(
            "... its worst cosine with float32",
            ">= 0.99",
            worst,
            bool(worst and worst.least >= 0.99),
            "{:.4f}",
        )
        goal("... top-10 overlap", ">= 0.95", overlap, bool(overlap and overlap.least >= 0.95), "{:.3f}")
    for count, most in ((10_000, 1.0), (1_000_000, 1.5)):
        rounds = store.rounds_of(f"cold-{count}")
        wall, peak = spread_of(rounds, "pixseek", "wall_s"), spread_of(rounds, "pixseek", "peak_mb")
        goal(f"cold search of {count:,}, s", f"<= {most}", wall, bool(wall and wall.median <= most))
        if count == 1_000_000:
            goal("... its memory, MB", "<= 1300", peak, bool(peak and peak.most <= 1300), "{:.0f}")
            ratio = ratios(rounds, "rclip", "pixseek", "wall_s")
            goal("... times faster than rclip", ">= 8", ratio, bool(ratio and ratio.median >= 8), "{:.1f}")
    rounds = store.rounds_of("warm-1000000")
    exact = "pixseek-exact" if spread_of(rounds, "pixseek-exact", "texts", "p50_ms") else "pixseek"
    floor = store.read("floor-1000000")
    p50 = spread_of(rounds, exact, "texts", "p50_ms")
    if floor and p50:
        over = p50.median / 1000 / floor["read_s"]
        goal("exact search of 1,000,000: times the memory floor", "<= 1.3", over, over <= 1.3)
    for kind in ("texts", "pictures"):
        recall = spread_of(rounds, "pixseek", kind, "recall")
        ms = spread_of(rounds, "pixseek", kind, "p50_ms")
        if recall and ms:
            good = recall.median >= 0.98 and ms.median <= 5
            rows.append(
                (f"1,000,000, {kind}: recall@10 and ms", ">= 0.98, < 5 ms where approximate",
                 f"{recall.median:.3f}, {shown(ms, '{:.2f}', ends=False)} ms", "yes" if good else "**no**")
            )  # fmt: skip
    return "### Goals\n\n" + table(("what", "wanted", "measured", "reached"), rows) if rows else ""
