"""The page about Python is true: its blocks run, one after the other, as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_every_block_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.S | re.M)
    assert len(blocks) >= 4
    samples = [sys.executable, str(ROOT / "data/draw_samples.py"), "photos", "--count", "40", "--seed", "0"]
    subprocess.run(samples, cwd=tmp_path, check=True, capture_output=True)
    # Workers are spawned, so the blocks stand in a file under the usual guard.
    body = "\n".join(blocks)
    indented = "".join(f"    {line}\n" if line else "\n" for line in body.split("\n"))
    (tmp_path / "page.py").write_text(f"if __name__ == '__main__':\n{indented}")
    run = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert "40 indexed, 0 failed" in run.stdout
    assert (tmp_path / "best.png").exists()
