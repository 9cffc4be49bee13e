"""Draw the figures of docs/benchmarks.md: `python plots.py DATA.json FOLDER`."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLORS = {"pixseek": "#1f6fb4", "rclip": "#d1702a", "plain": "#8a8a8a", "memory": "#444444"}
STYLES = ["-", "--", ":", "-."]


def color(name, number):
    return next((shade for start, shade in COLORS.items() if name.startswith(start)), f"C{number % 10}")


def indexing(bars, path):
    figure, axes = plt.subplots(figsize=(8, 3.6))
    names = list(next(iter(bars.values())))
    for number, name in enumerate(names):
        places = [group + (number - 1) * 0.27 for group in range(len(bars))]
        heights = [rates.get(name) or 0 for rates in bars.values()]
        drawn = axes.bar(places, heights, 0.25, color=color(name, number), label=name)
        axes.bar_label(drawn, [f"{height:.1f}" if height else "-" for height in heights], fontsize=8)
    axes.set_xticks(range(len(bars)), list(bars), fontsize=9)
    axes.set_ylabel("pictures a second")
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=9)
    finish(figure, axes, path)


def scaling(lines, path):
    figure, axes = plt.subplots(figsize=(8, 4.8))
    seen = {}
    for number, (name, points) in enumerate(lines.items()):
        shade = color(name, number)
        style = STYLES[seen.setdefault(shade, 0) % len(STYLES)]
        marker = "osD^v"[seen[shade] % 5]
        seen[shade] += 1
        axes.loglog(*zip(*points, strict=True), style, marker=marker, color=shade, label=name, markersize=5)
    axes.set_xlabel("pictures")
    axes.set_ylabel("seconds")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    finish(figure, axes, path)


def recall(points, count, path):
    figure, sides = plt.subplots(1, 2, figsize=(9.5, 4), sharex=True, sharey=True)
    for axes, kind in zip(sides, ("texts", "pictures"), strict=True):
        for number, (name, kinds) in enumerate(points.items()):
            if kind in kinds and None not in kinds[kind]:
                marker = "*" if name.startswith("pixseek") else "osD^vPX"[number % 7]
                axes.plot(
                    *kinds[kind],
                    marker,
                    color=color(name, number),
                    label=name,
                    markersize=12 if marker == "*" else 7,
                    linestyle="none",
                )
        axes.axhline(0.98, color="#bbbbbb", linewidth=1)
        axes.set_xscale("log")
        axes.set_xlabel("p50 of one question, ms")
        axes.set_title(f"{kind}, {count:,} vectors", fontsize=10)
        axes.grid(True, alpha=0.3)
    sides[0].set_ylabel("recall@10")
    sides[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    finish(figure, sides[0], path)


def finish(figure, axes, path):
    for side in figure.axes:
        side.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def main():
    data, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if data["bars"]:
        indexing(data["bars"], folder / "indexing.png")
    if data["lines"]:
        scaling(data["lines"], folder / "scaling.png")
    if data["points"]:
        recall(data["points"], data["points_of"], folder / "recall.png")


if __name__ == "__main__":
    main()
