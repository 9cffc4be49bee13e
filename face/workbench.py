"""The commands that describe pictures and judge encoders, as `cli` does: parse, call, print."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from face import terminal
from face.choices import (
    AllowPickle,
    AsJson,
    CaptionsField,
    EncoderSpec,
    ImagesDir,
    IndexDir,
    JudgedRuntime,
    Offline,
    encoder_cache,
    encoder_chooser,
    index_folder,
)
from face.interrupts import heard_signals

if TYPE_CHECKING:
    from PIL import Image

    from training import Evaluation

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
                query = load_picture(
                    path, stdin=terminal.standard_input(), min_side=min_side, offline=offline
                )
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
    field: CaptionsField = "captions",
    images: ImagesDir = None,
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
    runtime: JudgedRuntime = None,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
) -> None:
    """Measure how well an encoder finds, classifies or describes pictures that have words."""
    from encoders import UsageError

    choose = encoder_chooser(encoder, allow_pickle=allow_pickle, offline=offline, runtime=runtime)
    if source is None:
        from indexer import Index
        from training import evaluate_index

        if images or captions or zero_shot or field != "captions" or runtime is not None:
            raise UsageError("an index is judged by its own words; name a data set for these options")
        with Index.open(index_folder(index_dir)) as opened:
            chosen = choose(opened.space)
            with _watched(quiet=as_json) as watch:
                found = evaluate_index(opened, chosen, limit=limit, seed=seed, on_progress=watch)
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
        with _watched(quiet=as_json) as watch:
            found = evaluate_dataset(
                source,
                chosen,
                field=field,
                images=images,
                zero_shot=zero_shot,
                captioner=captioner,
                limit=limit,
                seed=seed,
                on_progress=watch,
            )
    for line in found.notes:
        terminal.note(line)
    if as_json:
        terminal.document(found)
    else:
        _show(found)


@contextmanager
def _watched(*, quiet: bool) -> Iterator[Callable[[Any], None]]:
    """Return what draws progress, and ends the work after the present batch when a signal asks for it."""
    with heard_signals() as stopping:

        def watch(progress: Any) -> None:
            show(progress)
            if stopping.event.is_set():
                raise KeyboardInterrupt

        try:
            with terminal.progress_bar(quiet=quiet) as show, terminal.libraries_muted():
                yield watch
        except KeyboardInterrupt:
            terminal.note("stopped; nothing was written, the same command begins anew")
            raise typer.Exit(stopping.exit_code) from None


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


COMMANDS: tuple[Callable[..., Any], ...] = (caption, evaluate)
"""In the order in which `pixseek --help` lists them."""
