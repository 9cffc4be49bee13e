"""Contact sheets: the hits of a question as one picture or as the pages of a PDF, drawn with Pillow."""

from __future__ import annotations

import math
import os
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from face import terminal
from face.answers import percent

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

MAX_PICTURES = 500
"""On one sheet: 23 x 22 pictures, 24 megapixels."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".pdf": "PDF"}
_THUMBNAIL, _LOWEST, _GAP, _LINE, _MARGIN = 200, 120, 16, 18, 24
_CELL_WIDTH, _CELL_HEIGHT = _THUMBNAIL + _GAP, _THUMBNAIL + 2 * _LINE + _GAP
# 5 x 6 cells have the shape of a sheet of paper (1 : 1.37; A4 is 1 : 1.41).
_PAGE_COLUMNS, _PAGE_ROWS, _PDF_DPI = 5, 6, 144.0
_PAPER, _INK, _FAINT, _BOX = "white", (30, 30, 30), (110, 110, 110), (225, 225, 225)
# Pillow's own font knows ASCII and no accents; these know more, where they are installed.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc", "DroidSansFallbackFull.ttf", "wqy-zenhei.ttc", "Arial Unicode.ttf",
    "PingFang.ttc", "msyh.ttc", "DejaVuSans.ttf",
)  # fmt: skip


class Hit(Protocol):
    """The part of `search.Hit` that a sheet needs."""

    @property
    def rank(self) -> int: ...
    @property
    def path(self) -> bytes: ...
    @property
    def probability(self) -> float | None: ...
    @property
    def group(self) -> Sequence[Any]: ...
    def thumbnail(self, side: int) -> Image.Image: ...


@dataclass(frozen=True, slots=True)
class Sheet:
    """What was drawn: pictures on it, and how many of those could not be read any more."""

    pictures: int
    unreadable: int


def require_target(target: Path, roots: Sequence[bytes], *, force: bool) -> None:
    """Raise UsageError where no sheet may be written; called before the search, which may take a while.

    Args:
        roots: the folders of the index: a picture in one of them is never overwritten.
        force: another file may be.
    """
    from encoders import UsageError

    if target.suffix.lower() not in _FORMATS:
        raise UsageError(f"--contact-sheet {target}: its name must end in {', '.join(_FORMATS)}")
    if target.is_dir():
        raise UsageError(f"--contact-sheet {target} is a folder; give a file name in it")
    if not target.parent.is_dir():
        raise UsageError(f"--contact-sheet {target}: there is no folder {target.parent}")
    if os.path.lexists(target):
        real = os.path.realpath(os.fsencode(target))
        if any(real.startswith(root.rstrip(b"/") + b"/") for root in roots):
            raise UsageError(
                f"--contact-sheet {target} is a file among your indexed pictures; choose another name"
            )
        if not force:
            raise UsageError(f"--contact-sheet {target} exists already; choose another name, or give --force")


def write_sheet(hits: Sequence[Hit], target: Path) -> Sheet:
    """Draw the first `MAX_PICTURES` hits; the file appears whole or not at all.

    Raises:
        OutputFailed: the disk is full, read-only or failing.
    """
    hits = hits[:MAX_PICTURES]
    kind = _FORMATS[target.suffix.lower()]
    if kind == "PDF":
        columns, size = _PAGE_COLUMNS, _PAGE_COLUMNS * _PAGE_ROWS
        pages = [hits[start : start + size] for start in range(0, len(hits), size)] or [hits]
    else:
        # Cells are a little higher than wide: so many columns make a sheet about as wide as high.
        columns = max(1, min(len(hits), round(math.sqrt(len(hits) * _CELL_HEIGHT / _CELL_WIDTH))))
        pages = [hits]
    fonts = _Fonts()
    unreadable = 0
    drawn = []
    for page in pages:
        picture, failed = _draw_page(page, columns, _PAGE_ROWS if kind == "PDF" else None, fonts)
        drawn.append(picture)
        unreadable += failed

    def save(name: str) -> None:
        first, *others = drawn
        if kind == "PDF":
            first.save(name, kind, save_all=True, append_images=others, resolution=_PDF_DPI, quality=88)
        elif kind == "PNG":
            first.save(name, kind, compress_level=6)
        else:
            first.save(name, kind, quality=88)

    try:
        write_whole(target, save)
    except OSError as error:
        raise terminal.OutputFailed(f"cannot write {target}: {os.strerror(error.errno or 0)}") from None
    return Sheet(len(hits), unreadable)


def write_whole(target: Path, save: Callable[[str], None]) -> None:
    """Let `save` write a file beside the target, and move it there once it is on disk. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    try:
        os.fchmod(descriptor, 0o666 & ~_umask())
        save(name)
        os.fsync(descriptor)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _draw_page(hits: Sequence[Hit], columns: int, rows: int | None, fonts: _Fonts) -> tuple[Image.Image, int]:
    """Return a sheet `columns` wide, and how many pictures could not be read.

    Args:
        rows: of a page that is as high however few pictures are on it; None: as high as they need.
    """
    from PIL import Image, ImageDraw

    shown = [_thumbnail(hit) for hit in hits]
    lines = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    heights = [
        _THUMBNAIL
        if rows
        else max(_LOWEST, *(_THUMBNAIL if isinstance(one, str) else one.height for one in line))
        for line in lines
    ]
    heights += [_THUMBNAIL] * ((rows or 1) - len(heights))
    width = columns * _CELL_WIDTH - _GAP + 2 * _MARGIN
    below = 2 * _LINE + _GAP
    page = Image.new("RGB", (width, sum(heights) + below * len(heights) - _GAP + 2 * _MARGIN), _PAPER)
    pen = ImageDraw.Draw(page)
    for number, (hit, image) in enumerate(zip(hits, shown, strict=True)):
        row, column = divmod(number, columns)
        left = _MARGIN + column * _CELL_WIDTH
        foot = _MARGIN + sum(heights[: row + 1]) + below * row
        if isinstance(image, str):
            _draw_box(pen, left, foot - _THUMBNAIL, image, fonts)
        else:  # at the foot of its cell, so that its name is right below it
            page.paste(image, (left + (_THUMBNAIL - image.width) // 2, foot - image.height))
        _write(pen, left, foot + 2, _label(hit), _INK, fonts)
        _write(pen, left, foot + 2 + _LINE, terminal.visible(os.path.basename(hit.path)), _FAINT, fonts)
    return page, sum(isinstance(one, str) for one in shown)


def _thumbnail(hit: Hit) -> Image.Image | str:
    """Return the picture, or why there is none."""
    try:
        with terminal.libraries_muted():
            return hit.thumbnail(_THUMBNAIL)
    except Exception as error:  # as a preview: a vanished or broken file must not end the answer
        # The name stands below the box already.
        why = str(error).replace(os.fsdecode(hit.path), "the file")
        return why.rpartition(": ")[2].partition("; ")[0]


def _label(hit: Hit) -> str:
    parts = [f"{hit.rank:,}", percent(hit.probability), f"+{len(hit.group):,} more" if hit.group else ""]
    return "   ".join(part for part in parts if part)


def _draw_box(pen: ImageDraw.ImageDraw, left: int, top: int, why: str, fonts: _Fonts) -> None:
    pen.rectangle((left, top, left + _THUMBNAIL - 1, top + _THUMBNAIL - 1), fill=_BOX)
    _write(pen, left + 8, top + _THUMBNAIL // 2 - _LINE, "cannot be shown", _INK, fonts, inset=16)
    why = terminal.visible(why)
    _write(pen, left + 8, top + _THUMBNAIL // 2, why, _FAINT, fonts, inset=16)


def _write(
    pen: ImageDraw.ImageDraw,
    left: int,
    top: int,
    text: str,
    ink: tuple[int, int, int],
    fonts: _Fonts,
    inset: int = 0,
) -> None:
    """Write one line; what does not fit is left out in the middle, where names differ least."""
    font, text = fonts.of(text)
    room = _THUMBNAIL - inset
    text = text[:120] if len(text) <= 120 else f"{text[:60]}{text[-60:]}"
    shown, keep = text, len(text)
    while pen.textlength(shown, font) > room and keep > 1:
        keep -= 1
        shown = f"{text[: (keep + 1) // 2]}\u2026{text[len(text) - keep // 2 :]}"
    pen.text((left, top), shown, fill=ink, font=font)


class _Fonts:
    """Fonts by what is to be written; each is looked for once."""

    def __init__(self) -> None:
        self._latin: ImageFont.FreeTypeFont | ImageFont.ImageFont | None = None
        self._wide: ImageFont.FreeTypeFont | ImageFont.ImageFont | None = None

    def of(self, text: str) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, str]:
        """Return a font and the text as it can write it: without accents, or as boxes, where none can."""
        from PIL import ImageFont

        if self._latin is None:
            self._latin = ImageFont.load_default(13)
        if all(character.isascii() or character == "\u2026" for character in text):
            return self._latin, text
        if self._wide is None:
            for name in _WIDE_FONTS:
                try:
                    self._wide = ImageFont.truetype(name, 13)
                    break
                except OSError:
                    continue
            else:
                self._wide = self._latin
        if self._wide is self._latin:
            parts = unicodedata.normalize("NFKD", text)
            text = "".join(character for character in parts if not unicodedata.combining(character))
        return self._wide, text
