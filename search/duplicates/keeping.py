"""Which file of a group is kept: the rules, as an order in which the first one stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from indexer import FileCopy

KeepName: TypeAlias = Literal["best", "largest", "oldest", "newest", "shortest-path", "first-folder"]
KEEP_NAMES: tuple[str, ...] = get_args(KeepName)

# Formats that lose nothing when they are written: of two pictures of one size, the better source.
_LOSSLESS = frozenset({"RAW", "PNG", "TIFF", "BMP", "GIF", "PPM", "DIB", "TGA", "QOI"})


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Which file of a group stays.

    Attributes:
        name: `best`: whole before cut files, then most pixels, a lossless format, the one with most to say
            about itself (date, camera, place, words), most bytes, the shorter path. In a burst the sharpest
            comes right after the pixels. `largest`: most bytes. `oldest`, `newest`: by the time the picture
            was taken, else by that of the file. `shortest-path`. `first-folder`: the first by name.
        prefer: a file at or below one of these folders stays rather than one elsewhere, by their order.
        reference: as `prefer` and before it; and nothing there is ever removed.
    """

    name: KeepName = "best"
    prefer: tuple[bytes, ...] = ()
    reference: tuple[bytes, ...] = ()

    def is_reference(self, path: bytes) -> bool:
        return any(_below(path, folder) for folder in self.reference)


def keep_order(file: FileCopy, rule: KeepRule, *, burst: bool = False) -> tuple[Any, ...]:
    """Return what to sort by: the least is the file to keep. Two files never have the same."""
    best = (
        file.status != "ok",
        -file.width * file.height,
        -(file.look.sharpness if burst and file.look else 0.0),
        file.format not in _LOSSLESS,
        -_richness(file),
        -file.size_bytes,
        len(file.path),
        file.path,
    )
    ruled: tuple[Any, ...]
    if rule.name == "largest":
        ruled = (-file.size_bytes,)
    elif rule.name == "oldest":
        ruled = (file.taken_at is None, file.taken_at or "", file.mtime_ns)
    elif rule.name == "newest":
        ruled = (file.taken_at is None, *(-ord(letter) for letter in (file.taken_at or "")[:19]))
        ruled = (*ruled, *(0,) * (21 - len(ruled)), -file.mtime_ns)
    elif rule.name == "shortest-path":
        ruled = (len(file.path),)
    elif rule.name == "first-folder":
        ruled = (file.path,)
    else:
        ruled = ()
    return (
        not rule.is_reference(file.path),
        _place(file.path, rule.prefer),
        *ruled,
        *best,
    )


def _richness(file: FileCopy) -> int:
    """Return how many things a file says about itself."""
    about = (file.taken_at, file.camera, file.lens, file.latitude, file.caption, file.rating)
    return sum(value not in (None, "") for value in about) + len(file.keywords)


def _place(path: bytes, folders: tuple[bytes, ...]) -> int:
    return next((at for at, folder in enumerate(folders) if _below(path, folder)), len(folders))


def _below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
