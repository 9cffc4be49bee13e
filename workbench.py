"""The commands that make and judge encoders: parse, call, print, as in `cli`, which registers them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import terminal
from choices import AllowPickle, AsJson, EncoderSpec, Offline, encoder_cache

if TYPE_CHECKING:
    from PIL import Image

SOME_FAILED = 3
# Pictures captioned at once: as many as the captioners take in one run, or fewer when they are large.
CAPTION_BATCH, CAPTION_PIXELS = 8, 32_000_000


def caption(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...", help="Picture files, addresses, or - for stdin.", show_default=False
        ),
    ],
    encoder: EncoderSpec = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="TEXT", help="First words of every sentence.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    print0: Annotated[
        bool, typer.Option("-0", "--print0", help="Print exact path, NUL, sentence, NUL.")
    ] = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Describe pictures in a sentence each (--encoder: builtin, unless another is named)."""
    from encoders import UsageError, load_captioner

    if prompt is not None and not prompt.strip():
        raise UsageError('--prompt is blank; give the first words: --prompt "a photo of", or leave it out')
    captioner = load_captioner(
        encoder or "builtin", cache_dir=encoder_cache(), allow_pickle=allow_pickle, offline=offline
    )
    failed: list[bytes] = []
    loaded = _pictures(pictures, min_side=captioner.image_size, offline=offline, failed=failed)
    captions: list[dict[str, object]] = []
    for batch in _batches(loaded):
        if prompt is None:
            sentences = captioner.caption([image for _, image in batch])
        else:
            sentences = [captioner.complete(image, prompt) for _, image in batch]
        for (path, _), sentence in zip(batch, sentences, strict=True):
            if as_json:
                captions.append({"path": path, "caption": sentence})
            elif print0:
                terminal.write(path + b"\0" + sentence.encode() + b"\0")
            else:
                terminal.write(terminal.name_for_stdout(path) + b"\t" + sentence.encode() + b"\n")
    if as_json:
        terminal.document({"encoder": captioner.spec, "count": len(captions), "captions": captions})
    if failed:
        raise typer.Exit(SOME_FAILED)


def _pictures(
    names: list[str], *, min_side: int, offline: bool, failed: list[bytes]
) -> Iterator[tuple[bytes, Image.Image]]:
    """Yield (name as typed, picture); what cannot be read gets a line on stderr and a place in `failed`.

    Raises:
        UsageError: there is but one name, and it cannot be read.
    """
    from encoders import UsageError
    from search import load_picture

    for name in names:
        path = os.fsencode(name)
        try:
            with terminal.libraries_muted():
                query = load_picture(path, stdin=sys.stdin.buffer, min_side=min_side, offline=offline)
        except UsageError as error:
            if len(names) == 1:
                raise
            terminal.note(str(error))
            failed.append(path)
        else:
            yield path, query.image


def _batches(loaded: Iterator[tuple[bytes, Image.Image]]) -> Iterator[list[tuple[bytes, Image.Image]]]:
    """Yield runs of at most `CAPTION_BATCH` pictures; one that passes `CAPTION_PIXELS` ends its run."""
    batch: list[tuple[bytes, Image.Image]] = []
    pixels = 0
    for path, image in loaded:
        batch.append((path, image))
        pixels += image.width * image.height
        if len(batch) == CAPTION_BATCH or pixels > CAPTION_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


COMMANDS: tuple[Callable[..., Any], ...] = (caption,)
"""In the order in which `pixseek --help` lists them."""
