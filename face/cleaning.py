"""The command that finds duplicates and, when told to, removes them: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from face import terminal
from face.choices import AsJson, IndexDir, Print0, index_folder
from face.decisions import decide, list_decided
from face.interrupts import heard_signals

if TYPE_CHECKING:
    from indexer import FileCopy
    from search import DuplicateGroup, Duplicates, Member, RemovalStep

SOME_FAILED = 3
KINDS = {
    "exact": ("exact",),
    "near": ("near",),
    "burst": ("burst",),
    "all": ("exact", "near", "burst"),
    "default": ("exact", "near"),
}
_Folders = list[str] | None


def duplicates(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="For --keep-both and --forget.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="exact|near|burst|all", help="What to look for (exact and near).", show_default=False
        ),
    ] = None,
    inside: Annotated[
        _Folders,
        typer.Option("--in", metavar="FOLDER", help="Look only there; may be repeated.", show_default=False),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="Which one stays: best, largest, oldest, newest, shortest-path or first-folder.",
        ),
    ] = "best",
    prefer: Annotated[
        _Folders,
        typer.Option(metavar="FOLDER", help="What lies there stays rather than others.", show_default=False),
    ] = None,
    reference: Annotated[
        _Folders,
        typer.Option(metavar="FOLDER", help="What lies there is never removed.", show_default=False),
    ] = None,
    apply: Annotated[
        str | None,
        typer.Option(
            metavar="trash|hardlink", help="Do it; without this, only show the plan.", show_default=False
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back what the last --apply trash has moved.")
    ] = False,
    keep_both: Annotated[
        bool, typer.Option("--keep-both", help="Remember that these FILEs are to be kept, all of them.")
    ] = False,
    decided: Annotated[bool, typer.Option("--decided", help="List what --keep-both has decided.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget what was decided about FILEs.")] = False,
    index_dir: IndexDir = None,
    as_json: AsJson = False,
    print0: Print0 = False,
    paths_only: Annotated[
        bool, typer.Option("--paths-only", help="Print only the paths that would be removed.")
    ] = False,
) -> None:
    """Find copies, look-alikes and bursts; remove what is too much, when told to (--apply)."""
    from encoders import UsageError
    from search import KEEP_NAMES, KeepRule

    folder = index_folder(index_dir)
    ways = [name for name, on in zip(
        ("--apply", "--undo", "--keep-both", "--decided", "--forget"),
        (apply is not None, undo, keep_both, decided, forget), strict=True,
    ) if on]  # fmt: skip
    if len(ways) > 1:
        raise UsageError(f"{ways[0]} and {ways[1]} are two things; give one of them")
    if files and not (keep_both or forget):
        raise UsageError("files are named for --keep-both and --forget; to look in one folder: --in FOLDER")
    if undo:
        _undo(folder, as_json=as_json)
    elif decided:
        list_decided(folder, as_json=as_json)
    elif keep_both or forget:
        decide(folder, files or [], forget=forget)
    else:
        if kind not in (None, *KINDS) or kind == "default":
            raise UsageError(f"--kind {kind} is not there; give exact, near, burst or all")
        if keep not in KEEP_NAMES:
            raise UsageError(f"--keep {keep} is not there; give one of: {', '.join(KEEP_NAMES)}")
        if apply not in (None, "trash", "hardlink"):
            raise UsageError(f"--apply {apply} is not there; give trash or hardlink")
        if apply == "hardlink" and kind in ("near", "burst"):
            raise UsageError("only exact copies can be hard links of each other; leave --kind out")
        rule = KeepRule(keep, _folders(prefer, "--prefer"), _folders(reference, "--reference"))  # type: ignore[arg-type]
        where = _folders(inside, "--in")
        kinds = ("exact",) if apply == "hardlink" else KINDS[kind or "default"]
        plan = _plan(folder, kinds, (*where, *rule.reference) if where else (), rule)
        groups = [group for group in plan.groups if apply is None or group.kind != "burst" or kind == "burst"]
        if apply is not None:
            _apply(folder, groups, apply, as_json=as_json)
        elif as_json:
            terminal.document(_document(plan))
        elif print0 or paths_only:
            for group in groups:
                for member in group.removable:
                    path = member.file.path
                    terminal.write(path + b"\0" if print0 else terminal.name_for_stdout(path) + b"\n")
        else:
            _show(plan)


def _folders(names: Sequence[str] | None, option: str) -> tuple[bytes, ...]:
    from encoders import UsageError

    for name in names or ():
        if not os.path.isdir(name):
            raise UsageError(f"{option} {name}: no such folder")
    return tuple(os.path.realpath(os.fsencode(name)) for name in names or ())


def _plan(folder: Path, kinds: Sequence[Any], where: Sequence[bytes], rule: Any) -> Duplicates:
    from indexer import Index
    from search import find_duplicates

    with Index.open(folder) as opened, _comparing() as seen:
        plan = find_duplicates(opened, kinds, folders=where, rule=rule, on_progress=seen)
        warnings = list(opened.warnings)
    for warning in warnings:
        terminal.note(warning)
    if plan.without_look and "near" in kinds:
        terminal.note(
            f"{terminal.count(plan.without_look, 'picture')} indexed by an older pixseek: of those only the "
            "most alike are found; to find all: pixseek index --verify FOLDER"
        )
    return plan


@contextmanager
def _comparing() -> Iterator[Callable[[int], None]]:
    """Return what draws how many pictures were compared."""

    @dataclass
    class Work:
        what: str = "comparing pictures"
        done: int = 0
        total: int = 0
        loss: float | None = None

    work = Work()
    with terminal.work_bar(quiet=not sys.stderr.isatty()) as show:

        def seen(more: int) -> None:
            work.done += more
            show(work)

        yield seen


# --- showing


def _show(plan: Duplicates) -> None:
    for group in plan.groups:
        keeper = group.keeper
        about = f"{keeper.width} x {keeper.height} {keeper.format}, {terminal.size(keeper.size_bytes)}"
        _row("keep", keeper.path, about)
        for member in group.members:
            _row("remove" if member.action == "remove" else "stays", member.file.path, _detail(member))
        terminal.line("")
    if plan.raw_pairs:
        terminal.note(
            f"{terminal.count(plan.raw_pairs, 'picture')} beside its RAW file: two things, not duplicates"
        )
    if plan.decided:
        terminal.note(
            f"{terminal.count(plan.decided, 'pair')} left out, as you decided (--decided lists them)"
        )
    if not plan.groups:
        terminal.note("no duplicates")
        return
    number, size_bytes = _totals(plan.groups)
    terminal.note(
        f"{terminal.count(len(plan.groups), 'group')}; {terminal.count(number, 'file')} could go, "
        f"{terminal.size(size_bytes)}; nothing was changed, to do it: pixseek duplicates --apply trash"
    )


def _row(action: str, path: bytes, detail: str) -> None:
    terminal.write(
        action.encode()
        + b"\t"
        + terminal.name_for_stdout(path)
        + b"\t"
        + terminal.visible(detail).encode()
        + b"\n"
    )


def _detail(member: Member) -> str:
    from search import sidecars_of

    file = member.file
    parts: list[str] = [member.relation]
    if member.relation != "exact":
        shown = f"{file.width} x {file.height} {file.format}, {terminal.size(file.size_bytes)}"
        parts.append(shown + (f", cosine {member.cosine:.2f}" if member.cosine is not None else ""))
    if member.why:
        parts.append(member.why)
    if member.loses:
        parts.append(f"the kept one has no {', '.join(member.loses)} of it")
    beside = sidecars_of(file.path) if member.action == "remove" else []
    if beside:
        parts.append("with " + ", ".join(os.fsdecode(os.path.basename(path)) for path in beside))
    return "; ".join(parts)


def _totals(groups: Sequence[DuplicateGroup]) -> tuple[int, int]:
    """Return how many files could go and the bytes that would be free: an inode counts once."""
    removable = [member.file for group in groups for member in group.removable]
    return len(removable), sum({(file.inode, file.dev): file.size_bytes for file in removable}.values())


def _document(plan: Duplicates) -> dict[str, Any]:
    from search import sidecars_of

    number, size_bytes = _totals(plan.groups)
    return {
        "count": len(plan.groups),
        "removable_files": number,
        "removable_bytes": size_bytes,
        "without_look": plan.without_look,
        "raw_pairs": plan.raw_pairs,
        "decided": plan.decided,
        "groups": [
            {
                "kind": group.kind,
                "keep": _about(group.keeper),
                "members": [
                    {
                        "relation": member.relation,
                        "action": member.action,
                        "why": member.why,
                        "distance": member.distance,
                        "cosine": member.cosine,
                        "loses": member.loses,
                        "sidecars": sidecars_of(member.file.path),
                        **_about(member.file),
                    }
                    for member in group.members
                ],
            }
            for group in plan.groups
        ],
    }


def _about(file: FileCopy) -> dict[str, Any]:
    names = ("path", "file_id", "size_bytes", "width", "height", "format", "taken_at", "camera")
    return {name: getattr(file, name) for name in names} | {"content_hash": file.content_hash.hex()}


# --- doing


def _apply(folder: Path, groups: Sequence[DuplicateGroup], how: str, *, as_json: bool) -> None:
    from search import remove_duplicates

    with heard_signals() as stopping:
        steps = remove_duplicates(
            folder,
            groups,
            how,  # type: ignore[arg-type]
            home_trash=_home_trash(),
            on_step=None if as_json else _tell,
            stop=stopping.event,
        )
        stopped = stopping.event.is_set()
    done = [step for step in steps if step.done]
    size_bytes = sum(step.size_bytes for step in done)
    if as_json:
        terminal.document({"how": how, "done": len(done), "size_bytes": size_bytes, "steps": steps})
    elif how == "trash":
        terminal.note(
            f"{terminal.count(len(done), 'file')} moved to the trash, {terminal.size(size_bytes)}"
            + ("; to put them back: pixseek duplicates --undo" if done else "")
        )
    else:
        terminal.note(
            f"{terminal.count(len(done), 'copy', 'copies')} made hard links, {terminal.size(size_bytes)} free"
        )
    if stopped:
        terminal.note("stopped; each file is either done or untouched")
        raise typer.Exit(stopping.exit_code)
    if len(done) < len(steps):
        raise typer.Exit(SOME_FAILED)


def _tell(step: RemovalStep) -> None:
    if step.done:
        detail = os.fsdecode(step.went_to) if step.went_to else f"now {os.fsdecode(step.keeper)}"
        _row("trashed" if step.how == "trash" else "linked", step.path, detail)
    else:
        terminal.note(f"left alone: {os.fsdecode(step.path)}: {step.why}")


def _home_trash() -> bytes:
    """Return the trash of the home folder."""
    if sys.platform == "darwin":
        return os.fsencode(os.path.expanduser("~/.Trash"))
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.fsencode(os.path.join(os.path.abspath(data), "Trash"))


def _undo(folder: Path, *, as_json: bool) -> None:
    from search import undo_removal

    steps = undo_removal(folder)
    failed = [step for step in steps if not step.done]
    if as_json:
        terminal.document({"done": len(steps) - len(failed), "steps": steps})
    else:
        for step in steps:
            if step.done:
                _row("back", step.path, "")
            else:
                terminal.note(f"not put back: {os.fsdecode(step.path)}: {step.why}")
    terminal.note("to have them in the index again: pixseek index FOLDER")
    if failed:
        raise typer.Exit(SOME_FAILED)


COMMANDS: tuple[Callable[..., Any], ...] = (duplicates,)
