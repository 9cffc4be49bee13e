"""The commands that make and judge encoders: parse, call, print, as in `cli`, which registers them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import terminal
from choices import (
    AllowPickle,
    AsJson,
    EncoderSpec,
    IndexDir,
    Offline,
    encoder_cache,
    encoder_chooser,
    index_folder,
)

if TYPE_CHECKING:
    from PIL import Image

    from encoders import Encoder
    from training import Evaluation, Finetuned

SOME_FAILED = 3
# Pictures captioned at once: as many as the captioners take in one run, or fewer when they are large.
CAPTION_BATCH, CAPTION_PIXELS = 8, 32_000_000
# Classes shown to a person, the ones with the lowest F1; `--json` has them all.
WORST_SHOWN = 10


# --- pixseek caption


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


# --- pixseek evaluate


def evaluate(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="WebDataset tar, COCO json, Flickr token file, csv or folder; none: the index itself.",
            show_default=False,
        ),
    ] = None,
    encoder: EncoderSpec = None,
    index_dir: IndexDir = None,
    field: Annotated[
        str, typer.Option("--captions-field", metavar="NAME", help="Where captions are: captions_zh for one.")
    ] = "captions",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the pictures of a table are.", show_default=False),
    ] = None,
    zero_shot: Annotated[
        bool | None,
        typer.Option(
            "--zero-shot/--no-zero-shot",
            help="Classify by the labels (default: where there are labels and no captions).",
            show_default=False,
        ),
    ] = None,
    captions: Annotated[
        bool, typer.Option("--captions", help="Also let the encoder write captions: BLEU and CIDEr.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Judge N pictures (of an index: N queries), drawn at random.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the drawing and the intervals.")] = 0,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Measure how well an encoder finds, classifies or describes pictures that have words."""
    from encoders import UsageError

    choose = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline)
    if source is None:
        from indexer import Index
        from training import evaluate_index

        if images or captions or zero_shot or field != "captions":
            raise UsageError("an index is judged by its own words; name a data set for these options")
        with Index.open(index_folder(index_dir)) as opened:
            chosen = choose(opened.space)
            with terminal.progress_bar(quiet=as_json) as show:
                found = evaluate_index(opened, chosen, limit=limit, seed=seed, on_progress=show)
    else:
        from training import evaluate_dataset

        if index_dir is not None:
            raise UsageError("give a data set or --index, not both")
        captioner = None
        if captions:
            from encoders import load_captioner

            captioner = load_captioner(
                encoder or "builtin", cache_dir=encoder_cache(), allow_pickle=allow_pickle, offline=offline
            )
        chosen = choose(None)
        with terminal.progress_bar(quiet=as_json) as show:
            found = evaluate_dataset(
                source,
                chosen,
                field=field,
                images=images,
                zero_shot=zero_shot,
                captioner=captioner,
                limit=limit,
                seed=seed,
                on_progress=show,
            )
    for line in found.notes:
        terminal.note(line)
    if as_json:
        terminal.document(found)
    else:
        _show(found)


def _show(found: Evaluation) -> None:
    """Print the numbers, one row each, and the classes that do worst."""
    terminal.line(
        f"{terminal.visible(found.encoder)} on {terminal.visible(found.source)}: "
        f"{terminal.count(found.pictures, 'picture')}, {terminal.count(found.sentences, 'sentence')}, "
        f"{found.seconds:.1f} s"
    )
    rows = [["", "metric", "value", "95 % interval", "n"]]
    task = ""
    for one in found.measures:
        digits = 1 if one.unit or one.metric == "median rank" else 3
        rows.append(
            [
                one.task if one.task != task else "",
                one.metric,
                f"{one.value:.{digits}f}{' ' + one.unit if one.unit else ''}",
                f"{one.low:.{digits}f} to {one.high:.{digits}f}",
                f"{one.n:,}",
            ]
        )
        task = one.task
    terminal.table(rows, right=(2, 3, 4))
    classes = [one for one in found.classes if one.count]
    worst = sorted(classes, key=lambda one: (one.f1, one.label))[:WORST_SHOWN]
    if worst:
        shown = f"classes, lowest F1 first ({len(worst)} of {len(classes)})"
        table = [[shown, "precision", "recall", "F1", "n"]]
        for score in worst:
            numbers = [f"{100 * share:.1f} %" for share in (score.precision, score.recall, score.f1)]
            table.append([terminal.visible(score.label), *numbers, f"{score.count:,}"])
        terminal.line("")
        terminal.table(table, right=(1, 2, 3, 4))


# --- pixseek finetune


class Method(StrEnum):
    """How an encoder is adapted."""

    linear = "linear"
    lora = "lora"


def finetune(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Your pictures with words: a folder, WebDataset tar, COCO json, Flickr token file or csv.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Where the adapted encoder goes.", show_default=False),
    ],
    encoder: EncoderSpec = None,
    method: Annotated[
        Method,
        typer.Option(
            help="linear: seconds, any encoder. lora: minutes to hours, changes the towers, needs torch."
        ),
    ] = Method.linear,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes over the pictures at most (linear 100, lora 10).",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Of the changes: lower changes less (linear: full, lora 8).",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0.001, help="Of lora: changes count alpha / rank (16).", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the learning and the intervals.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Write the result even when it is worse on held-out pictures.")
    ] = False,
    field: Annotated[
        str, typer.Option("--captions-field", metavar="NAME", help="Where captions are: captions_zh for one.")
    ] = "captions",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the pictures of a table are.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Adapt an encoder to your own captioned, keyworded or foldered pictures."""
    from encoders import EncoderError, Trainable, load_encoder
    from training import finetune as adapt

    cache = encoder_cache()
    base = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline)(None)

    def load(spec: str) -> Encoder:
        return load_encoder(spec, cache_dir=cache, allow_pickle=allow_pickle, offline=offline)

    def trainable(spec: str) -> Trainable:
        return Trainable(spec, cache_dir=cache, allow_pickle=allow_pickle, offline=offline)

    with terminal.progress_bar(quiet=as_json) as show:
        found = adapt(
            source,
            out,
            encoder=base,
            load=load,
            trainable=trainable,
            method=method.value,
            epochs=epochs,
            rank=rank,
            alpha=alpha,
            seed=seed,
            force=force,
            field=field,
            images=images,
            cache_dir=cache,
            on_progress=show,
        )
    for line in found.notes:
        terminal.note(line)
    if as_json:
        terminal.document(found)
    else:
        _show_changes(found)
    if not found.written:
        raise EncoderError(found.why_not)
    moved = found.drift
    terminal.note(
        f"{'WARNING: ' if moved.large else ''}on {moved.queries} everyday questions: cosine "
        f"{moved.cosine:.3f} to before, {moved.kept:.0f} % of each one's 10 nearest kept"
        + ("; the more pictures of other kinds you search, the more that matters" if moved.large else "")
    )
    if found.changes_previous:
        terminal.note("an index made with the encoder that was in this folder must be made again")
    terminal.note(f"next: pixseek index ~/Pictures --encoder {shlex.quote(found.out)} --index NEW_FOLDER")


def _show_changes(found: Finetuned) -> None:
    """Print the numbers before and after, one row each."""
    data = found.data
    terminal.line(
        f"{terminal.visible(found.base)} adapted by {found.method} to {terminal.visible(data.source)}: "
        f"{data.words} of {terminal.count(data.pictures, 'picture')}, {data.texts:,} different; "
        f"{data.learned:,} to learn from, {data.stopping:,} to stop by, {data.held_out:,} held out"
    )
    against = [("before", found.changes)]
    if found.changes_previous:
        against.append(("in the folder", found.changes_previous))
    for name, changes in against:
        terminal.line("")
        terminal.line(f"{'held-out pictures, %':24} {name:>13} {'after':>7} {'change':>7}  95 % interval")
        for change in changes:
            terminal.line(
                f"{change.metric:24} {change.before:13.1f} {change.after:7.1f} {change.difference:+7.1f}  "
                f"{change.low:+.1f} to {change.high:+.1f}"
            )


COMMANDS: tuple[Callable[..., Any], ...] = (caption, evaluate, finetune)
"""In the order in which `pixseek --help` lists them."""
