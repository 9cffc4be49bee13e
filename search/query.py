"""What was asked: a `Query` of texts, pictures and conditions; and the picture that a name stands for."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias

from encoders import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from encoders import Encoder
    from indexer import Filter

# Far beyond any encoder's context (77 tokens of CLIP, 8,192 of the longest known): the rest is never read.
MAX_TEXT_CHARACTERS = 50_000
# The largest query file that is read into memory, bytes; a 200-megapixel RAW has about 250 MB.
MAX_PICTURE_BYTES = 512 * 1024 * 1024
# A decoder asked for this many pixels gives all that the file has.
_FULL_SIZE = 1 << 20
# No encoder's context ends within so few words (CLIP: 77 tokens; the built-in one: 48).
_SHORTEST_CONTEXT = 12


Fusion: TypeAlias = Literal["early", "late", "hybrid"]
Sort: TypeAlias = Literal["score", "taken", "name", "size"]
Grouping: TypeAlias = Literal["day", "folder", "burst", "near-duplicate"]
Crop: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Text:
    """What the picture shows, in words. Never blank."""

    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to look like.

    Attributes:
        source: a path, an http(s) address, `-` for stdin, `clipboard:` for the clipboard; or a picture that
            is in memory already: upright, or as `PIL.Image.open` gives it.
        crop: (x, y, width, height), the part that is meant: pixels of the upright picture, or fractions of
            it when none is above 1; None for all of it.
    """

    source: str | bytes | os.PathLike[str] | Image.Image
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class Indexed:
    """A picture of the index, by `Hit.file_id`."""

    file_id: int


@dataclass(frozen=True, slots=True)
class Concept:
    """A name that `pixseek concept add` gave to a few examples."""

    name: str


Part: TypeAlias = Text | Picture | Indexed | Concept


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a question.

    Attributes:
        weight: how much it counts beside the others; below 0 pushes away (vector arithmetic), never 0.
        excluded: pictures that show it are left out, by a calibrated test; the weight is 1 then.
    """

    part: Part
    weight: float = 1.0
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A question to `Searcher.search`.

    Attributes:
        terms: what the picture shows or looks like; empty: every picture that `where` leaves, unranked.
        where: what else must be true of it.
        like, unlike: file ids of good and bad examples among earlier hits (relevance feedback).
        k: how many files are wanted at most.
        fusion: how several terms become one ranking; None takes the measured default.
        min_probability: hits below this are cut, 0 to 1.
        auto_cut: cut where the scores stop standing out.
        sort: the order of what is left after the cut.
        group: show one hit for each day, folder, burst or look-alike, the others behind it.
        diversity: 0 ranks by relevance alone, 1 by difference alone (MMR).
        exclude: paths that are no answer, as in `Hit.path`.
    """

    terms: tuple[Term, ...] = ()
    where: Filter | None = None
    like: tuple[int, ...] = ()
    unlike: tuple[int, ...] = ()
    k: int = 10
    fusion: Fusion | None = None
    min_probability: float | None = None
    auto_cut: bool = False
    sort: Sort = "score"
    group: Grouping | None = None
    diversity: float = 0.0
    exclude: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class QueryPicture:
    """A picture to look for.

    Attributes:
        image: RGB, upright, with at least `min_side` pixels on its short side where the file has them.
        path: absolute path when it came from a file, as `Hit.path` has it; None for stdin and addresses.
    """

    image: Image.Image
    path: bytes | None = None


def clean_text(text: str) -> str:
    """Return the sentence with controls as spaces, lone surrogates dropped, blanks joined, length capped.

    Raises:
        UsageError: nothing is left.
    """
    text = text[: 2 * MAX_TEXT_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")
    text = "".join(character if character >= " " and character != "\x7f" else " " for character in text)
    text = " ".join(text.split())[:MAX_TEXT_CHARACTERS]
    if not text:
        raise UsageError('the query is blank; say what the picture shows: pixseek search "a dog on a beach"')
    return text


def load_picture(
    source: bytes,
    *,
    min_side: int,
    stdin: IO[bytes] | None = None,
    offline: bool = False,
    crop: Crop | None = None,
) -> QueryPicture:
    """Return the picture that `source` names, or the part of it that is meant.

    Args:
        source: a path, an http(s) address, `-` for stdin, `clipboard:` for the clipboard.
        min_side: pixels of the short side that are needed; a larger picture may be decoded smaller.
        stdin: where `-` reads from.
        offline: refuse addresses.
        crop: as in `Picture`; the picture is decoded at full size then, so that a small part stays sharp.
    Raises:
        UsageError: it cannot be read, is no picture, or the crop lies outside of it; the message is one line.
    """
    scheme = source.partition(b"://")[0].lower() if b"://" in source else b""
    path = None
    if source == b"-":
        if stdin is None:
            raise UsageError("- reads a picture from standard input, and there is none")
        name, data = "standard input", _read_limited(stdin, "standard input")
    elif source == b"clipboard:":
        from search.clipboard import clipboard_picture

        held = clipboard_picture()
        if isinstance(held, str):
            name, data, path = held, _read_file(held), os.fsencode(held)
        else:
            name, data = "the clipboard", held
    elif scheme in (b"http", b"https"):
        from search.fetch import fetch_picture

        name = source.decode("utf-8", "replace")
        if offline:
            raise UsageError(f"{name}: --offline allows no address; give a file")
        data = fetch_picture(name)
    else:
        name = os.fsdecode(source)
        if scheme and not Path(name).exists():
            raise UsageError(f"{name}: only http and https addresses can be fetched")
        data = _read_file(name)
        path = os.path.abspath(source)  # not resolved: the index keeps names as the walk met them
    if crop is None:
        return QueryPicture(_decode(data, name, min_side)[0], path)
    image, size = _decode(data, name, _FULL_SIZE)
    return QueryPicture(_cropped(image, crop, name, size), path)


def load_part(picture: Picture, min_side: int) -> QueryPicture:
    """Return the picture of a term, from memory, a file or a public address.

    Raises:
        UsageError: as `load_picture`.
    """
    if isinstance(picture.source, str | bytes | os.PathLike):
        return load_picture(os.fsencode(picture.source), min_side=min_side, crop=picture.crop)
    image = _in_memory(picture.source, _FULL_SIZE if picture.crop else min_side)
    return QueryPicture(crop_picture(image, picture.crop) if picture.crop else image)


def _in_memory(image: Image.Image, min_side: int) -> Image.Image:
    """Return a picture as the index would have it, if it is not RGB already or comes right from a file."""
    from PIL import Image, ImageFile, ImageOps

    from indexer import to_rgb

    if not isinstance(image, Image.Image):
        raise UsageError(
            f"a picture is a path, an address or an image of Pillow, and not {type(image).__name__}; "
            "Image.fromarray(...) makes one of an array"
        )
    if min(image.size) < 1:
        raise UsageError("the picture has no pixels; give another")
    try:
        if isinstance(image, ImageFile.ImageFile):  # nobody has turned it upright yet
            return to_rgb(ImageOps.exif_transpose(image), min_side=min_side)
        return image if image.mode == "RGB" else to_rgb(image, min_side=min_side)
    except (OSError, ValueError, SyntaxError) as error:
        raise UsageError(f"the picture cannot be read: {error}; give another") from None


def crop_picture(image: Image.Image, crop: Crop, name: str = "the picture") -> Image.Image:
    """Return the part of a picture that is meant, at least 1 x 1 pixel.

    Args:
        crop: as in `Picture`.
        name: of the picture, for the message.
    Raises:
        UsageError: the part lies outside of it; the message says how large the picture is.
    """
    return _cropped(image, crop, name, image.size)


def _cropped(image: Image.Image, crop: Crop, name: str, size: tuple[int, int]) -> Image.Image:
    """`size` is that of the upright original, which may be larger than the decoded picture."""
    width, height = size
    x, y, across, down = crop
    asked = ",".join(f"{number:.12g}" for number in crop)
    if not all(map(math.isfinite, crop)) or across <= 0 or down <= 0:
        raise UsageError(f"crop {asked}: it must be x,y,width,height, with a width and a height above 0")
    if max(crop) > 1:  # pixels
        x, across, y, down = x / width, across / width, y / height, down / height
    # Fractions that were rounded, such as 0.333 + 0.667, may pass the edge by a hair.
    if x < 0 or y < 0 or x + across > 1 + 1e-6 or y + down > 1 + 1e-6:
        raise UsageError(
            f"crop {asked} (x,y,width,height) lies outside of {name}, which has {width:,} x {height:,} pixels"
        )
    left = min(round(x * image.width), image.width - 1)
    top = min(round(y * image.height), image.height - 1)
    right = min(max(left + 1, round((x + across) * image.width)), image.width)
    bottom = min(max(top + 1, round((y + down) * image.height)), image.height)
    return image.crop((left, top, right, bottom))


def words_read(text: str, encoder: Encoder) -> int | None:
    """Return how many words of a sentence an encoder reads before its context is full; None: all of them.

    An encoder does not say so: two other words in the place of the last one show whether it is read at all.
    """
    words = text.split()

    def unread(start: int) -> bool:
        both = encoder.encode_texts([" ".join([*words[:start], other]) for other in ("red", "blue")])
        return bool(abs(both[0] - both[1]).max() < 1e-6)

    if len(words) < _SHORTEST_CONTEXT or not unread(len(words) - 1):
        return None
    first, last = 0, len(words) - 1  # `last` is not read
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if unread(middle) else (middle + 1, last)
    return last


def _read_file(name: str) -> bytes:
    if not name or "\0" in name:
        raise UsageError("an empty name; give a picture file, an address, or - for standard input")
    try:
        # O_NONBLOCK: a FIFO without a writer must not hang; what is not a regular file is refused below.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):  # Python makes no file object of a folder
            os.close(descriptor)
            raise UsageError(f"{name} is a folder; give one picture, or index it: pixseek index {name}")
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(mode):
                raise UsageError(f"{name} is not a regular file; to read a pipe, use -")
            return _read_limited(file, name)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {os.strerror(error.errno or 0)}") from None


def _read_limited(file: IO[bytes], name: str) -> bytes:
    try:
        data = file.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {os.strerror(error.errno or 0)}") from None
    if len(data) > MAX_PICTURE_BYTES:
        raise UsageError(f"{name} is larger than {MAX_PICTURE_BYTES // 1024**2} MB")
    if not data:
        raise UsageError(f"{name} is empty; give a picture")
    return data


def _decode(data: bytes, name: str, min_side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the whole picture, and (width, height) of the upright original."""
    from indexer import ImageError, decode

    try:
        picture = decode(data, min_side=min_side)
    except ImageError as error:
        raise UsageError(f"{name} cannot be used as a query picture: {error}") from None
    # A panorama comes with tiles; the whole picture is the question.
    whole = [image for region, image in picture.frames if region is None]
    image: Image.Image = whole[0] if whole else picture.frames[0][1]
    return image, (picture.width, picture.height)
