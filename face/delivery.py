"""Where an answer goes: stdout in one form, thumbnails below it, a contact sheet, a folder, the desktop."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from face import terminal
from face.answers import Form, give, reasons

if TYPE_CHECKING:
    from indexer import Index
    from search import Hit, Results

SOME_FAILED = 3


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was asked for beside the question.

    Attributes:
        form: how stdout looks.
        preview: draw thumbnails, on a terminal.
        sheet: where to draw a contact sheet; `force`: also over another file.
        folder: where to copy the hits; `link`: link instead.
        open_them: open the hit, or a sheet of several.
    """

    form: Form
    preview: bool
    sheet: Path | None
    force: bool
    folder: Path | None
    link: bool
    open_them: bool

    @classmethod
    def asked(
        cls,
        *,
        form: Form,
        preview: bool,
        sheet: Path | None,
        force: bool,
        folder: Path | None,
        copy: bool,
        symlink: bool,
        open_them: bool,
    ) -> Delivery:
        """Return it. Raises UsageError where options do not go together."""
        from encoders import UsageError

        if copy and symlink:
            raise UsageError("--copy and --symlink are two ways to fill --export-to; give one of them")
        if (copy or symlink) and folder is None:
            raise UsageError(f"{'--copy' if copy else '--symlink'} needs --export-to FOLDER")
        if force and sheet is None:
            raise UsageError("--force needs --contact-sheet FILE")
        return cls(form, preview, sheet, force, folder, symlink, open_them)

    def prepare(self, opened: Index) -> None:
        """Look whether everything can be written, before the search. Raises UsageError where it cannot."""
        if self.sheet is not None:
            from face.sheets import require_target

            require_target(self.sheet, opened.roots(), force=self.force)
        if self.folder is not None:
            from face.exports import require_folder

            require_folder(self.folder)
            place = os.path.realpath(os.fsencode(self.folder)) + b"/"
            if any(place.startswith(root.rstrip(b"/") + b"/") for root in opened.roots()):
                terminal.note(
                    f"{self.folder} is inside an indexed folder: what is put there will be indexed, too"
                )

    def deliver(self, results: Results, opened: Index, question: str) -> None:
        """Write the answer, and what a person should know about it.

        Raises:
            OutputClosed, OutputFailed: stdout, the sheet or the folder cannot be written.
            UsageError: nothing here can open pictures.
            typer.Exit: some files could not be exported.
        """
        for line in (*opened.warnings, *results.notes, *reasons(results, opened)):
            terminal.note(line)
        encoder = opened.space.spec if opened.space else None
        draw = _previewer() if self.preview and self.form in ("lines", "paths") else None
        gone: terminal.OutputClosed | None = None
        try:
            give(results, self.form, question=question, encoder=encoder, draw=draw)
        except terminal.OutputClosed as closed:  # `--export-to out | head -1` exports all the same
            gone = closed
        complete = not results.hits or self._take_along(results)
        if not complete:
            raise typer.Exit(SOME_FAILED)
        if gone is not None:
            raise gone

    def _take_along(self, results: Results) -> bool:
        """Return whether every hit that was to be exported was."""
        if self.sheet is not None:
            self._draw_sheet(results, self.sheet)
        complete = self.folder is None or _export(results, self.folder, link=self.link)
        if self.open_them:
            self._open(results)
        return complete

    def _draw_sheet(self, results: Results, target: Path) -> None:
        from face.sheets import write_sheet

        sheet = write_sheet(results.hits, target)
        left_out = len(results.hits) - sheet.pictures
        terminal.note(
            f"drew {terminal.count(sheet.pictures, 'picture')} on {target}"
            + (f"; {sheet.unreadable:,} of them cannot be shown any more" if sheet.unreadable else "")
            + (f"; {left_out:,} more have no room on it" if left_out else "")
        )

    def _open(self, results: Results) -> None:
        from face.exports import open_with_desktop

        if len(results.hits) == 1:
            open_with_desktop(os.fsdecode(results.hits[0].path))
            return
        target = self.sheet
        if target is None:
            import platformdirs

            from face.sheets import write_sheet

            # One place, written anew each time: no pile of other people's business in /tmp.
            folder = platformdirs.user_cache_path("pixseek", appauthor=False)
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                raise terminal.OutputFailed(f"cannot write to {folder}: {why}") from None
            target = folder / "answer.png"
            write_sheet(results.hits, target)
        open_with_desktop(str(target.absolute()))


def _export(results: Results, folder: Path, *, link: bool) -> bool:
    """Return whether every hit is in the folder now."""
    from face.exports import export_files

    done = export_files(results.hits, folder, link=link)
    for path, why in done.failed:
        terminal.note(f"{terminal.path_text(path)}: {why}")
    there = f", {done.there:,} there already" if done.there else ""
    failed = f", {len(done.failed):,} failed" if done.failed else ""
    terminal.note(f"{'linked' if link else 'copied'} {done.made:,}{there}{failed}: {folder}")
    return not done.failed


def _previewer() -> Callable[[Hit], bytes] | None:
    """Return what draws a hit, or None (and why, on stderr) when stdout is no terminal."""
    if not sys.stdout.isatty():
        terminal.note("--preview needs a terminal; showing names only")
        return None
    from face.preview import Previewer

    previewer = Previewer.for_terminal(dict(os.environ), shutil.get_terminal_size())
    return lambda hit: previewer.draw(hit.path, hit.region)
