"""What the other parts need, made before any of them: it stays for the next run.

A build of a peer's index is measured where it is made, which is here: on a quiet machine, then.
"""

from __future__ import annotations

from tests.benchmarks.suite import environments, libraries, pictures, upkeep, warm, weights
from tests.benchmarks.suite.results import Store
from tests.benchmarks.suite.settings import Sizes


def measure(sizes: Sizes, store: Store) -> None:
    """Make everything but what ten million vectors need."""
    store.write("environment-rclip", {"found": environments.make("rclip", environments.RCLIP)})
    store.write("environment-peers", {"found": environments.make("peers", environments.PEERS)})
    weights.make()
    for name in sizes.pictures:
        pictures.make(name, sizes)
    for files in sizes.files:
        upkeep.unchanged(sizes, files)
    for rows in sizes.libraries:
        libraries.rclip_library(sizes, rows)
        libraries.questions(sizes, rows)
        warm.build(sizes, store, rows)
