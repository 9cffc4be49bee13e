"""The command that makes the index: `index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from face import terminal
from face.choices import (
    AllowPickle,
    AsJson,
    EncoderSpec,
    IndexDir,
    Offline,
    Runtime,
    RuntimeName,
    encoder_chooser,
    folder_bytes,
    index_folder,
)
from face.interrupts import heard_signals

if TYPE_CHECKING:
    from encoders import Encoder
    from indexer import Space

SOME_FAILED = 3


def index(
    folders: Annotated[list[str], typer.Argument(metavar="FOLDER...", show_default=False)],
    index_dir: IndexDir = None,
    encoder: EncoderSpec = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes that decode pictures.", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, not only changed ones.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try files that failed before once more.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget files that are gone, even when many vanished at once.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait while another process updates the index.")
    ] = False,
    runtime: RuntimeName = Runtime.auto,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Index folders of pictures; run it again to take up what changed."""
    from indexer import IndexLockedError, index_folders

    paths = [folder_bytes(folder) for folder in folders]
    choose = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline, runtime=runtime)
    told = False
    with heard_signals() as stopping:

        def load(space: Space | None) -> Encoder:
            with stopping.nothing_to_keep():  # the first time it is exported, or a runtime made: a minute
                return choose(space)

        while True:
            try:
                with terminal.progress_bar(quiet=quiet or as_json) as show:
                    report = index_folders(
                        paths,
                        index_dir=index_folder(index_dir),
                        encoder=load,
                        workers=workers,
                        verify=verify,
                        retry_failed=retry_failed,
                        prune=prune,
                        on_progress=show,
                        stop=stopping.event,
                    )
                break
            except IndexLockedError as locked:
                if not wait:
                    raise
                if not told:
                    terminal.note(f"waiting for {locked.holder}")
                    told = True
                # Waited for here and not below, so that Ctrl-C works meanwhile.
                if stopping.event.wait(0.2):
                    raise typer.Exit(stopping.exit_code) from None
    for problem in report.problems:
        terminal.note(problem)
    if as_json:
        terminal.document(report)
    if report.stopped:
        done = report.indexed + report.unchanged + report.renamed + report.failed
        terminal.note(f"stopped, {done:,} of {report.scanned:,} done; run the same command again to go on")
        raise typer.Exit(stopping.exit_code)
    if not (quiet or as_json):
        terminal.note(
            f"indexed {report.indexed:,}, unchanged {report.unchanged:,}, renamed {report.renamed:,}, "
            f"removed {report.removed:,}, failed {report.failed:,} in {report.seconds:.1f} s"
        )
        if report.partial:
            terminal.note(f"{terminal.count(report.partial, 'picture')} damaged but readable in part")
        if report.failed:
            terminal.note(
                f"{terminal.count(report.failed, 'file')} could not be indexed; why: pixseek failures"
            )
    if report.failed or report.problems:
        raise typer.Exit(SOME_FAILED)
