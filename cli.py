"""pixseek: the command line. The only place that prints, exits or reads the environment.

Each command reads as parse, call, print; those that ask are in `asking` and `concepts`, those that make and
judge encoders in `workbench` and `workshop`. Everything heavy is imported inside the command that needs it,
so that `pixseek --help` answers at once.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from face import asking, cleaning, concepts, runtimes, terminal, workbench, workshop
from face.choices import (
    AllowPickle,
    AsJson,
    EncoderSpec,
    IndexDir,
    Offline,
    Runtime,
    RuntimeName,
    encoder_cache,
    encoder_chooser,
    folder_bytes,
    index_folder,
)
from face.interrupts import heard_signals
from face.questions import SearchCommand

EXIT_CODES = {
    "UsageError": 2,
    "IndexMissingError": 10,
    "IndexLockedError": 11,
    "EncoderError": 12,
    "IndexDamagedError": 13,
    "IndexNewerError": 13,
    "IndexStorageError": 14,
}
UNEXPECTED, USAGE, SOME_FAILED, DAMAGED, OUTPUT_FAILED = 1, 2, 3, 13, 14

app = typer.Typer(
    name="pixseek",
    help="Find any picture by what it shows.\n\n"
    "pixseek index FOLDER, then pixseek search 'a dog on a beach' or pixseek similar photo.jpg.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


# --- making the index


@app.command()
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
    told = False
    with heard_signals() as stopping:
        while True:
            try:
                with terminal.progress_bar(quiet=quiet or as_json) as show:
                    report = index_folders(
                        paths,
                        index_dir=index_folder(index_dir),
                        encoder=encoder_chooser(
                            encoder, allow_pickle=allow_pickle, offline=offline, runtime=runtime
                        ),
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


# --- asking it

app.command(cls=SearchCommand)(asking.search)
app.command()(asking.similar)
app.add_typer(concepts.app, name="concept")


# --- looking after it


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


# --- making and judging encoders

for command in (*cleaning.COMMANDS, *workbench.COMMANDS, *workshop.COMMANDS):
    app.command()(command)


# --- the way in and the way out


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.line(f"pixseek {version('pixseek')}")
        except PackageNotFoundError:
            terminal.line("pixseek (not installed)")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong (any position).")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run pixseek and exit with a code of the table in the README."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed (`>&-`): its number must not go to a file of the index
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    # What is imported stays: to look through it for garbage takes a tenth of a short command.
    gc.set_threshold(50_000, 20, 20)
    arguments = sys.argv[1:]
    options_end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:options_end]
    arguments = [word for word in arguments[:options_end] if word != "--debug"] + arguments[options_end:]
    code = _run(arguments or ["--help"], debug=debug)
    try:
        sys.stdout.flush()
    except OSError:
        code = code or OUTPUT_FAILED
    completing = "_PIXSEEK_COMPLETE" in os.environ
    sys.exit(code if arguments or completing else USAGE)


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        returned = app(args=arguments, prog_name="pixseek", standalone_mode=False)
        return returned if isinstance(returned, int) else 0
    except terminal.OutputClosed:
        return 0
    except terminal.OutputFailed as error:
        terminal.note(str(error))
        return OUTPUT_FAILED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer's answer to `pixseek --help | head -1`
            return 0
        return error.code if isinstance(error.code, int) else UNEXPECTED
    except OSError as error:
        if error.filename is not None or error.errno not in terminal.OUTPUT_ERRNOS:
            return _explain(error, debug)
        terminal.drop_stdout()  # typer's own output: help and completion
        terminal.note(f"cannot write the answer: {error.strerror}")
        return OUTPUT_FAILED
    except KeyboardInterrupt:
        terminal.note("stopped")
        return 128 + signal.SIGINT
    except Exception as error:
        return _explain(error, debug)


def _explain(error: Exception, debug: bool) -> int:
    """Print one line about an error and return its exit code."""
    if debug:
        import traceback

        traceback.print_exc()
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "pixseek"
        terminal.note(f"{error.format_message().rstrip('.')}; see: {command} --help")
        return error.exit_code
    for kind in type(error).__mro__:
        if kind.__name__ in EXIT_CODES and kind.__module__.partition(".")[0] in ("encoders", "indexer"):
            terminal.note(str(error))
            # A query that cannot be read also shows where.
            for line in error.pointer() if hasattr(error, "pointer") else ():
                terminal.quoted(line)
            return EXIT_CODES[kind.__name__]
    terminal.note(f"unexpected {type(error).__name__}: {error}; please report it with the output of --debug")
    return UNEXPECTED


if __name__ == "__main__":
    main()
