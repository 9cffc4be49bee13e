"""Where things are, and how large a run is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("BENCH_HOME", ROOT / ".bench"))
"""Everything a run needs again: environments, pictures, indexes, results. Can be deleted at any time."""
SHARED = ROOT.parent / "shared" / "data"
"""Real photos, where this checkout has them beside it."""
PARTS = ("prepare", "indexing", "cold", "warm", "upkeep", "builtin", "warm10m")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        pictures: of each collection.
        rounds: in which the competitors take turns; `slow_rounds` for those that take minutes.
        libraries: pictures in the made-up indexes.
        files: that a re-index finds unchanged.
    """

    name: str = "full"
    pictures: dict[str, int] = field(default_factory=lambda: {"12mp": 500, "small": 2000, "formats": 200})
    rounds: int = 5
    slow_rounds: int = 3
    libraries: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    files: tuple[int, ...] = (10_000, 100_000)
    queries: int = 200

    @property
    def home(self) -> Path:
        """Return where the things of this size are made."""
        return HOME / self.name


FULL = Sizes()
QUICK = Sizes(
    "quick",
    {"12mp": 24, "small": 96, "formats": 16},
    rounds=2,
    slow_rounds=2,
    libraries=(1_000, 10_000),
    files=(1_000,),
    queries=50,
)
