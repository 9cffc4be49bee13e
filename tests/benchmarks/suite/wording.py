"""What competitors and collections are called on the page, and how numbers and tables are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.benchmarks.suite.results import Spread

TITLES = {
    "12mp": "JPEGs of 12 megapixels",
    "small": "photos of 200 to 500 pixels",
    "formats": "PNG and HEIC",
}
NAMES = {
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


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def shown(number: Spread | None, form: str = "{:.1f}", *, ends: bool = True) -> str:
    """Return the middle of a number and its ends, a dash where there is none."""
    if number is None:
        return "-"
    middle = form.format(number.median)
    if not ends or number.least == number.most:
        return middle
    return f"{middle} ({form.format(number.least)} to {form.format(number.most)})"
