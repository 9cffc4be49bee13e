"""`python -m tests.benchmarks.suite [PART...] [--quick] [--fresh]`: measure, then write docs/benchmarks.md.

Without parts all are measured but `warm10m`. A run that was cut goes on where it was; results of other code
are measured again. `page` alone writes the page from what was measured.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from importlib import import_module

from tests.benchmarks.suite import machine, page
from tests.benchmarks.suite.results import Store
from tests.benchmarks.suite.settings import FULL, PARTS, QUICK, ROOT


def revision() -> str:
    """Return what the measured code is: a hash of it, committed or not, whatever else changes around it."""
    code = ["encoders", "indexer", "search", "face", "cli.py"]
    digest = hashlib.blake2b(digest_size=6)
    try:
        for words in (["ls-tree", "HEAD"], ["diff", "HEAD", "--"]):
            told = subprocess.run(["git", *words, *code], cwd=ROOT, check=True, capture_output=True)
            digest.update(told.stdout)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return digest.hexdigest()


def main() -> int:
    """Run the parts; one that fails does not keep the others from being measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join((*PARTS, "page")))
    parser.add_argument("--quick", action="store_true", help="small sizes, some minutes; writes no page")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - {*PARTS, "page"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join((*PARTS, 'page'))}")
    sizes = QUICK if asked.quick else FULL
    store = Store(sizes.home / "results", revision())
    parts = [part for part in asked.parts or PARTS[:-1] if part != "page"]
    if parts:
        store.write("machine", machine.describe())
    failed = 0
    for part in parts:
        module, function = ("warm", "measure_10m") if part == "warm10m" else (part, "measure")
        if asked.fresh:
            store.forget(part)
        print(f"-- {part}", flush=True)
        began = time.perf_counter()
        try:
            getattr(import_module(f"tests.benchmarks.suite.{module}"), function)(sizes, store)
        except (Exception, SystemExit) as error:
            import traceback

            traceback.print_exc()
            print(f"{part} was not measured to its end: {error}", file=sys.stderr, flush=True)
            failed = 1
        store.write(f"took-{part}", {"seconds": time.perf_counter() - began})
        print(f"-- {part}: {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    page.write(sizes, store)
    return failed


if __name__ == "__main__":
    sys.exit(main())
