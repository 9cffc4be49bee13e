"""Looking after the index: `status`, `failures`, `check`, `repair`, `prune`, `backup`; and `encoders`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from face import runtimes, terminal
from face.choices import (
    AllowPickle,
    AsJson,
    EncoderSpec,
    IndexDir,
    Offline,
    encoder_cache,
    index_folder,
)

DAMAGED = 13


def status(index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """Show what the index holds."""
    from indexer import Index

    with Index.open(index_folder(index_dir)) as opened:
        state, warnings = opened.status(), list(opened.warnings)
    for warning in warnings:
        terminal.note(warning)
    if as_json:
        terminal.document(state)
        return
    space = state.space
    terminal.line(f"index     {terminal.visible(os.fsencode(state.folder))}")
    terminal.line(f"encoder   {space.spec} ({space.fingerprint[:12]})" if space else "encoder   none yet")
    for number, root in enumerate(state.roots):
        terminal.line(f"{'' if number else 'folders':10}{terminal.visible(root)}")
    partial = f", {state.partial:,} of them readable only in part" if state.partial else ""
    terminal.line(f"pictures  {state.files:,}{partial}")
    terminal.line(f"failed    {state.failed:,}{' (why: pixseek failures)' if state.failed else ''}")
    terminal.line(f"frames    {state.frames:,}")
    on_disk = state.catalog_bytes + state.snapshot_bytes
    if tier := state.tier:
        terminal.line(
            f"questions read {tier.probes:,} of {tier.lists:,} lists and find {tier.recall_at_10:.1%} of the "
            f"10 nearest, {tier.recall_at_100:.1%} of the 100"
        )
        on_disk += tier.size_bytes
    terminal.line(f"on disk   {terminal.size(on_disk)}")


def failures(index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """List the files that could not be indexed, or only in part, and why."""
    from indexer import Index

    with Index.open(index_folder(index_dir)) as opened:
        failed = list(opened.failures())
    if as_json:
        terminal.document({"count": len(failed), "failures": failed})
        return
    for failure in failed:
        reason = terminal.visible(("in part only: " if failure.partial else "") + failure.reason)
        terminal.write(terminal.name_for_stdout(failure.path) + b"\t" + reason.encode() + b"\n")
    if not failed:
        terminal.note("no failures")


def check(index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """Read the whole index and look for damage; changes nothing."""
    from indexer import check as check_index

    report = check_index(index_folder(index_dir))
    if as_json:
        terminal.document({"ok": report.ok, "rows": report.rows, "problems": report.problems})
    else:
        for problem in report.problems:
            terminal.line(
                terminal.visible(f"{problem.kind}: {problem.where}; mend it with: {problem.remedy}")
            )
        verdict = "the index is sound" if report.ok else "the index is damaged; run: pixseek repair"
        terminal.note(f"{verdict} ({terminal.count(report.rows, 'row')} read)")
    if not report.ok:
        raise typer.Exit(DAMAGED)


def repair(index_dir: IndexDir = None, as_json: AsJson = False) -> None:
    """Rebuild what can be rebuilt, and list what must be indexed again."""
    from indexer import repair as repair_index

    report = repair_index(index_folder(index_dir))
    if as_json:
        terminal.document(report)
        return
    for path in report.to_encode:
        terminal.write(terminal.name_for_stdout(path) + b"\n")
    if report.set_aside:
        terminal.note(f"the damaged catalog was kept as {report.set_aside}")
    terminal.note(
        f"{terminal.count(report.kept, 'embedding')} sound, {terminal.count(report.lost_rows, 'row')} lost"
    )
    if report.to_encode or report.lost_rows:
        terminal.note("to take up again what was lost, run pixseek index with the same folders")


def prune(
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without this, only show.")] = False,
    index_dir: IndexDir = None,
    as_json: AsJson = False,
) -> None:
    """Give back the space of pictures that are gone; only shows, until --apply."""
    from indexer import prune as prune_index

    report = prune_index(index_folder(index_dir), apply=apply)
    if as_json:
        terminal.document(report)
        return
    terminal.line(
        f"{'removed' if apply else 'would remove'} {terminal.count(report.embeddings, 'embedding')}"
    )
    if report.embeddings and not apply:
        terminal.note("nothing was changed; to do it: pixseek prune --apply")


def backup(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A new folder.")],
    index_dir: IndexDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy the index to one place, safely even while it is being updated."""
    from indexer import backup as backup_index

    made = backup_index(index_folder(index_dir), Path(target))
    if as_json:
        terminal.document({"path": os.fsencode(made)})
    else:
        terminal.write(terminal.name_for_stdout(os.fsencode(made)) + b"\n")


def encoders(
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Measure what runs an encoder fastest here; half a minute.")
    ] = False,
    encoder: EncoderSpec = None,
    index_dir: IndexDir = None,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """List the encoders worth knowing; or measure what runs one fastest."""
    if benchmark:
        runtimes.measure(encoder, index_dir, as_json=as_json, allow_pickle=allow_pickle, offline=offline)
        return
    from encoders import UsageError, list_encoders

    if encoder is not None:
        raise UsageError("--encoder says which one to measure: pixseek encoders --benchmark --encoder SPEC")
    known = list_encoders(cache_dir=encoder_cache())
    if as_json:
        terminal.document({"count": len(known), "encoders": known})
        return
    width = max(len(info.spec) for info in known)
    for info in known:
        here = "ready" if info.exported else "cached" if info.cached else "-"
        terminal.line(f"{info.spec:{width}}  {here:6}  {info.note}")
