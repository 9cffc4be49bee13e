"""What an answer is: `Hit`, one file; `Results`, the hits and why there are no more."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from encoders import UsageError
from search.query import Query, crop_picture, load_picture

if TYPE_CHECKING:
    from PIL import Image

# A notebook page with more thumbnails than this is slow to load and no easier to read.
_SHOWN_IN_NOTEBOOK = 50
_THUMBNAIL_SIDE = 160


@dataclass(frozen=True, slots=True)
class Hit:
    """One file, by its best frame.

    Attributes:
        rank: 1 is the best match, whatever order the hits were put in afterwards.
        score: cosine in [-1, 1] to the question, higher is closer.
        probability: that the picture matches, 0 to 1 (docs/scores.md); None where nothing was asked of it
            but conditions.
        path: absolute, as the file system has it.
        timestamp_ms: where in a video; None for a still.
        region: (x, y, width, height) as fractions of the upright picture when a part of it matched best.
        width, height: pixels of the upright original.
        taken_at: ISO 8601, without time zone unless the picture names one; None when it does not say.
        iso: film speed.
        rating: 0 to 5 stars, -1 for rejected; None when nobody rated it.
        status: `ok`, or `partial` when only a part of the picture could be decoded.
        group: the hits that stand behind this one (same day, folder, burst or look-alike), best first.
    """

    rank: int
    score: float
    probability: float | None
    path: bytes
    timestamp_ms: int | None
    region: tuple[float, float, float, float] | None
    width: int
    height: int
    format: str
    size_bytes: int
    taken_at: str | None
    camera: str | None
    lens: str | None
    iso: int | None
    latitude: float | None
    longitude: float | None
    caption: str | None
    keywords: tuple[str, ...]
    rating: int | None
    status: str
    file_id: int
    frame_id: int
    group: tuple[Hit, ...] = ()

    def thumbnail(self, side: int = _THUMBNAIL_SIDE) -> Image.Image:
        """Return the picture, or the part that matched, RGB, upright, at most `side` pixels each way.

        Raises:
            UsageError: the file is gone or cannot be read any more.
        """
        return thumbnail(self.path, side, self.region)


@dataclass(frozen=True, slots=True)
class Results(Sequence[Hit]):
    """The hits of one question, in the order they are to be shown; a sequence of `Hit`.

    Attributes:
        query: what was asked.
        hits: at most `query.k`.
        searched: files in the index.
        left: files that `query.where` left of them.
        excluded: files met on the way that show what the query excludes.
        cut: files met on the way that were cut because they probably do not match.
        best_probability: that anything here matches, 0 to 1; None where only conditions were asked.
        notes: what a person should know, a line each.
    """

    query: Query
    hits: tuple[Hit, ...]
    searched: int
    left: int
    excluded: int = 0
    cut: int = 0
    best_probability: float | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def _repr_html_(self) -> str:
        """Return the hits as a page of thumbnails, for a notebook; names are text and nothing else."""
        cells = "".join(_cell(hit) for hit in self.hits[:_SHOWN_IN_NOTEBOOK])
        more = len(self.hits) - _SHOWN_IN_NOTEBOOK
        rest = f"<p>and {more:,} more</p>" if more > 0 else ""
        nothing = "" if self.hits else f"<p>nothing among {self.left:,} pictures</p>"
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>{nothing}{rest}'


def thumbnail(path: bytes, side: int, region: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Return a picture file, or the region of it, RGB, upright, at most `side` pixels each way.

    Args:
        region: (x, y, width, height) as fractions of the upright picture.
    Raises:
        UsageError: the file cannot be read.
    """
    if side < 1:
        raise UsageError(f"a thumbnail of {side} pixels cannot be drawn; give 1 or more")
    image = load_picture(path, min_side=side).image.convert("RGB")
    if region:
        image = crop_picture(image, region)
    image.thumbnail((side, side))
    return image


def _cell(hit: Hit) -> str:
    name = html.escape(os.path.basename(hit.path).decode("utf-8", "backslashreplace"))
    try:
        stream = io.BytesIO()
        # Saved from pixels: no place or camera of the original travels with a shared notebook.
        hit.thumbnail().save(stream, "JPEG", quality=85)
        source = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        picture = f'<img src="{source}" alt="{name}">'
    except UsageError:
        picture = "(cannot be read)"
    sure = "" if hit.probability is None else f" &middot; {hit.probability:.0%}"
    more = f" &middot; +{len(hit.group)}" if hit.group else ""
    return (
        f'<figure style="margin:0;width:{_THUMBNAIL_SIDE}px">{picture}'
        f'<figcaption style="font-size:small;overflow-wrap:anywhere">{hit.rank}. {name}<br>'
        f"{hit.score:.3f}{sure}{more}</figcaption></figure>"
    )
