"""Thumbnails in a terminal: kitty graphics, iTerm2 inline images, sixel, or coloured half blocks.

Which one is read off the environment: asking the terminal would need raw mode and a wait for its answer.
A picture is decoded by the index's own careful decoder and drawn from its pixels, so that nothing of the file
itself reaches the terminal.
Sources: kitty graphics protocol (sw.kovidgoyal.net/kitty/graphics-protocol), iTerm2 inline images protocol
(iterm2.com/documentation-images.html), DEC STD 070 chapter 9 for sixel.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

Protocol = Literal["kitty", "iterm", "sixel", "blocks", "blocks256", "off"]

ROWS = 12
_COLUMNS = 40
# Pixels of one character cell where they are not known; terminals scale kitty and iTerm2 pictures themselves.
_CELL = (10, 20)
_SIXEL_COLORS = 128


def detect(environ: Mapping[str, str]) -> Protocol:
    """Return what the terminal of this environment can draw; `PIXSEEK_PREVIEW` overrules it."""
    asked = environ.get("PIXSEEK_PREVIEW", "")
    if asked in ("kitty", "iterm", "sixel", "blocks", "blocks256", "off"):
        return asked  # type: ignore[return-value]
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if term in ("", "dumb"):
        return "off"
    # tmux and screen keep their own picture of the screen and would paint over graphics.
    inside = bool(environ.get("TMUX") or environ.get("STY") or term.startswith(("tmux", "screen")))
    if not inside:
        if term in ("xterm-kitty", "xterm-ghostty") or environ.get("KITTY_WINDOW_ID") or program == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm", "mintty") or environ.get("LC_TERMINAL") == "iTerm2":
            return "iterm"
        if environ.get("KONSOLE_VERSION", "").isdecimal() and int(environ["KONSOLE_VERSION"]) >= 220400:
            return "kitty"
        if "sixel" in term or term.startswith(("foot", "mlterm", "contour")):
            return "sixel"
    truecolor = environ.get("COLORTERM") in ("truecolor", "24bit") or "direct" in term
    return "blocks" if truecolor else "blocks256"


@dataclass(frozen=True, slots=True)
class Previewer:
    """Draws files in a box of `columns` by `rows` character cells."""

    protocol: Protocol
    columns: int = _COLUMNS
    rows: int = ROWS

    @classmethod
    def for_terminal(cls, environ: Mapping[str, str], size: os.terminal_size) -> Previewer:
        """Return a previewer for the terminal of this environment."""
        return cls(
            detect(environ), max(2, min(_COLUMNS, size.columns - 8)), max(2, min(ROWS, size.lines - 3))
        )

    def draw(
        self,
        path: bytes,
        region: tuple[float, float, float, float] | None = None,
    ) -> bytes:
        """Return what shows the file, ending in a line feed; one line in words when it cannot be shown.

        Args:
            region: (x, y, width, height) of the part to show, as fractions of the upright picture.
        """
        if self.protocol == "off":
            return b""
        try:
            from search import crop_picture, load_picture

            image = load_picture(path, min_side=self.rows * _CELL[1]).image.convert("RGB")
            if region:
                image = crop_picture(image, region)
            columns, rows = self._cells(image)
            return _DRAW[self.protocol](image, columns, rows)
        except Exception:  # a thumbnail is an extra: a vanished or broken file must not end the answer
            return b"      (cannot be shown)\n"

    def _cells(self, image: Image.Image) -> tuple[int, int]:
        """Return (columns, rows) of the largest box with the picture's shape; a cell is 1 wide, 2 high."""
        scale = min(self.columns / image.width, 2 * self.rows / image.height)
        return max(1, round(image.width * scale)), max(1, round(image.height * scale / 2))


def _pixels(image: Image.Image, columns: int, rows: int) -> Image.Image:
    return image.resize((columns * _CELL[0], rows * _CELL[1]))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _kitty(image: Image.Image, columns: int, rows: int) -> bytes:
    data = base64.standard_b64encode(_png(_pixels(image, columns, rows)))
    pieces = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    out = bytearray()
    for number, piece in enumerate(pieces):
        more = int(number < len(pieces) - 1)
        # q=2: the terminal sends no answer, which would land in the shell's input.
        keys = f"a=T,f=100,q=2,c={columns},r={rows},m={more}" if number == 0 else f"m={more}"
        out += b"\x1b_G" + keys.encode() + b";" + piece + b"\x1b\\"
    return bytes(out) + b"\n"


def _iterm(image: Image.Image, columns: int, rows: int) -> bytes:
    data = _png(_pixels(image, columns, rows))
    head = f"\x1b]1337;File=inline=1;size={len(data)};width={columns};height={rows};preserveAspectRatio=1:"
    return head.encode() + base64.standard_b64encode(data) + b"\x07\n"


def _sixel(image: Image.Image, columns: int, rows: int) -> bytes:
    import numpy as np

    paletted = _pixels(image, columns, rows).quantize(_SIXEL_COLORS)
    palette = paletted.getpalette() or []
    indices = np.asarray(paletted)
    height, width = indices.shape
    out = bytearray(f'\x1bPq"1;1;{width};{height}'.encode())
    for color in range(len(palette) // 3):
        red, green, blue = (round(part * 100 / 255) for part in palette[3 * color : 3 * color + 3])
        out += f"#{color};2;{red};{green};{blue}".encode()
    for top in range(0, height, 6):
        band = indices[top : top + 6]
        weights = (1 << np.arange(len(band)))[:, None]
        for color in np.unique(band):
            bits = ((band == color) * weights).sum(axis=0)
            out += f"#{color}".encode() + _runs((bits + 63).astype(np.uint8).tobytes()) + b"$"
        out += b"-"
    return bytes(out) + b"\x1b\\\n"


def _runs(data: bytes) -> bytes:
    """Return sixel run-length code: `!N` and the character for more than three equal ones."""
    out, start = bytearray(), 0
    for end in range(1, len(data) + 1):
        if end == len(data) or data[end] != data[start]:
            length = end - start
            character = data[start : start + 1]
            out += f"!{length}".encode() + character if length > 3 else character * length
            start = end
    return bytes(out)


def _blocks(image: Image.Image, columns: int, rows: int) -> bytes:
    return _half_blocks(image, columns, rows, lambda r, g, b: f"2;{r};{g};{b}")


def _blocks256(image: Image.Image, columns: int, rows: int) -> bytes:
    # The 6 x 6 x 6 cube of xterm's 256 colours starts at 16.
    return _half_blocks(
        image,
        columns,
        rows,
        lambda r, g, b: f"5;{16 + 36 * round(r / 51) + 6 * round(g / 51) + round(b / 51)}",
    )


def _half_blocks(image: Image.Image, columns: int, rows: int, color: Callable[[int, int, int], str]) -> bytes:
    """Return lines of U+2580: the upper pixel is the foreground, the lower one the background."""
    data = image.resize((columns, 2 * rows)).tobytes()
    stride = 3 * columns
    lines = []
    for row in range(rows):
        upper, lower = data[2 * row * stride :], data[(2 * row + 1) * stride :]
        cells = "".join(
            f"\x1b[38;{color(*upper[at : at + 3])}m\x1b[48;{color(*lower[at : at + 3])}m\u2580"
            for at in range(0, stride, 3)
        )
        lines.append(f"      {cells}\x1b[0m\n")
    return "".join(lines).encode()


_DRAW: dict[str, Callable[[Image.Image, int, int], bytes]] = {
    "kitty": _kitty,
    "iterm": _iterm,
    "sixel": _sixel,
    "blocks": _blocks,
    "blocks256": _blocks256,
}
