"""What this process may use of the machine: cores and memory, also inside a container."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

RESERVED_BYTES: Final = 1 << 30
"""Memory left to the encoder, the catalog and everybody else."""
WORKER_BYTES: Final = 320 << 20
"""What a decode worker takes: 60 MB idle, 100 to 300 with a 12 to 50-megapixel picture of any format."""


def cores() -> int:
    """Return how many cores this process may keep busy, at least 1; a share of a core counts as one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _quotas())]))


def memory_bytes() -> int:
    """Return how much memory this process may use: the machine's, or its control group's if that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        total = 8 << 30
    limits = (_number(folder / "memory.max") for folder in _groups())
    return min([total, *(int(limit) for limit in limits if limit is not None and limit > 0)])


def default_workers() -> int:
    """Return how many decode processes to start: one per core, as far as memory goes."""
    return max(1, min(cores(), (memory_bytes() - RESERVED_BYTES) // WORKER_BYTES))


def _quotas() -> list[float]:
    """Return the cores that each control group above this process allows."""
    found = []
    for folder in _groups():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # "max", or a group without the controller
            continue
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """Return the folders of this process's control group (version 2) and of those above it."""
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration, ValueError):
        return []
    inside = root / line[3:].strip("/")
    return [folder for folder in (inside, *inside.parents) if folder == root or root in folder.parents]
