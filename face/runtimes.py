"""`pixseek encoders --benchmark`: the runtimes of an encoder side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from face import terminal
from face.choices import encoder_cache, encoder_spec, index_folder

if TYPE_CHECKING:
    from encoders import Choice


def measure(
    spec: str | None, index_dir: Path | None, *, as_json: bool, allow_pickle: bool, offline: bool
) -> None:
    """Measure an encoder's runtimes and show the table: of the one named, else the index's, else auto's."""
    from encoders import measure_runtimes

    spec = encoder_spec(spec, _of_index(index_dir) if spec is None else None, offline=offline)
    found = measure_runtimes(
        spec,
        cache_dir=encoder_cache(),
        allow_pickle=allow_pickle,
        offline=offline,
        on_wait=terminal.note,
    )
    if as_json:
        agreeing = [trial.runtime for trial in found.trials if trial.agrees]
        terminal.document({"encoder": spec, "agreeing": agreeing, **terminal.jsonable(found)})
    else:
        _show(found)


def _of_index(folder: Path | None) -> str | None:
    """Return the encoder of the index, None when there is no index."""
    from indexer import Index, IndexMissingError

    try:
        with Index.open(index_folder(folder)) as opened:
            return opened.space.spec if opened.space is not None else None
    except IndexMissingError:
        return None


def _show(found: Choice) -> None:
    """Print a row for each runtime, those that cannot run with the reason."""
    rows = [("", "runtime", "pictures/s", "cosine", "neighbours", "memory", "loads in")]
    for trial in found.trials:
        if trial.why_not is not None:
            continue
        mark = "*" if trial.runtime == found.runtime else "" if trial.agrees else "!"
        rows.append(
            (
                mark,
                trial.runtime,
                f"{trial.rate:.1f}",
                f"{trial.cosine:.4f}",
                f"{trial.overlap:.1%}",
                # A tower that was open before, or took memory another had left, is not seen to grow.
                terminal.size(trial.memory_bytes) if trial.memory_bytes >= 1 << 20 else "-",
                f"{trial.load_s:.1f} s",
            )
        )
    terminal.table(rows, right=(2, 3, 4, 5, 6))
    for trial in found.trials:
        if trial.why_not is not None:
            terminal.line(f"  {trial.runtime}: {terminal.visible(trial.why_not)}")
    terminal.note(
        f"* indexes from now on; ! does not agree with float32; tried on {found.probes} drawn pictures, "
        f"{terminal.count(found.machine['cores'], 'core')} of {terminal.visible(found.machine['cpu'])}"
    )
