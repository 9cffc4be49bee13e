"""An encoder adapted to a person's own pictures: read, hold out, learn, compare, and only then write.

The order: pictures and words through the base encoder (`memory`), which part learns and which judges
(`examples`), learning (`linear` or `lora`), numbers before and after on pictures that took no part
(`judge`), what it did to everyday questions (`drift`), and the folder (`target`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from encoders import (
    AdaptedEncoder,
    Encoder,
    EncoderError,
    Trainable,
    UsageError,
    builtin_folder,
    normalize,
)
from training.finetuning.drift import EVERYDAY, Drift, drift
from training.finetuning.examples import HELD_OUT, LEARN, VALIDATE, Examples, choose, embed_prompts
from training.finetuning.judge import Change, Embedded, compare
from training.finetuning.memory import Memory, embed_texts, read_pictures
from training.finetuning.methods import by_linear, by_lora, pixel_file, steps
from training.finetuning.target import beside, holds_encoder, put
from training.judging.evaluate import Progress, Watch
from training.pretraining.architecture import require_torch
from training.sets.datasets import read_dataset
from training.sets.samples import CAPTIONS, Sample, Say

if TYPE_CHECKING:
    from training.finetuning.tuning import Towers

Method = Literal["linear", "lora"]
EPOCHS: dict[str, int] = {"linear": 100, "lora": 10}


@dataclass(frozen=True, slots=True)
class Data:
    """What was learned from, in pictures.

    Attributes:
        words: captions, keywords or labels.
        texts: different ones.
        learned, stopping, held_out: pictures of each part.
    """

    source: str
    words: str
    pictures: int
    texts: int
    learned: int
    stopping: int
    held_out: int


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What came of it.

    Attributes:
        out: `local-dir:FOLDER`, the spec of the result.
        base: what `load_encoder` takes to get the encoder that was adapted.
        fingerprint: of the result.
        epochs: until the best one; 0 when nothing was gained.
        changes: against the base, on held-out pictures.
        changes_previous: against the encoder that was in the folder; empty when there was none.
        drift: what it did to everyday questions.
        written: whether the folder was written.
        why_not: why it was not; empty when it was.
        notes: what was left out and why, a line each.
    """

    out: str
    base: str
    method: Method
    fingerprint: str
    seed: int
    epochs: int
    data: Data
    changes: list[Change]
    changes_previous: list[Change]
    drift: Drift
    written: bool
    why_not: str
    notes: list[str]


def open_towers(spec: str, *, cache_dir: Path, allow_pickle: bool = False, offline: bool = False) -> Towers:
    """Return the towers of an encoder in torch, for lora; arguments as for `load_encoder`.

    Raises:
        UsageError: the spec names neither an open_clip model nor an encoder in the built-in one's format.
        EncoderError: as `load_encoder`; torch is not installed.
    """
    folder = builtin_folder(spec)
    if folder is None:
        return Trainable(spec, cache_dir=cache_dir, allow_pickle=allow_pickle, offline=offline)
    require_torch()
    from training.builtin.rebuilt import Rebuilt

    return Rebuilt(folder)


def finetune(
    source: str,
    out: Path,
    *,
    encoder: Encoder,
    load: Callable[[str], Encoder],
    trainable: Callable[[str], Towers] | None = None,
    method: Method = "linear",
    epochs: int | None = None,
    rank: int | None = None,
    alpha: float | None = None,
    seed: int = 0,
    force: bool = False,
    field: str = CAPTIONS,
    images: Path | None = None,
    cache_dir: Path | None = None,
    on_progress: Watch | None = None,
) -> Finetuned:
    """Return numbers before and after on held-out pictures; the folder is written when they are not worse.

    Args:
        source, field, images: as for `read_dataset`.
        out: the folder of the result, new or written here before.
        encoder: the base; adapting an adapter goes on from its matrices.
        load: gives the encoder of a spec, for the one in `out` and for the result of lora.
        trainable: gives the towers of a spec, for lora.
        epochs, rank, alpha: None means the method's own; alpha is lora's.
        force: write also what is worse.
        cache_dir: embeddings are kept there for the next run; None keeps none.
    Raises:
        UsageError: data that cannot be learned from, or an `out` that is something else.
        EncoderError: no gain on any picture, NaN, or a disk that cannot be written.
    """
    notes: list[str] = []
    watch = on_progress or (lambda progress: None)
    root = encoder.base if isinstance(encoder, AdaptedEncoder) else encoder
    out = Path(os.path.abspath(out.expanduser()))
    there = holds_encoder(out)
    if Path(root.spec.removeprefix("local-dir:")).resolve() == out.resolve():
        raise UsageError(f"the base encoder is in {out} itself; name another folder with --out")
    if alpha is not None and method != "lora":
        raise UsageError("--alpha belongs to --method lora")
    if method == "lora" and encoder is not root:
        raise UsageError(
            f"{encoder.spec} is a linear adapter, whose towers are those of {root.spec}; "
            f"use --encoder {root.spec}, or --method linear"
        )
    # Before anything is read: what has no towers to train is refused at once.
    towers = trainable(root.spec) if method == "lora" and trainable is not None else None
    work = out.with_name(f".{out.name}.lora")

    def samples(say: Say) -> Iterator[Sample]:
        return read_dataset(source, field=field, images=images, say=say)

    memory = Memory(_remembered(cache_dir, encoder, source), encoder.dim)
    try:
        with pixel_file(work) if method == "lora" else contextlib.nullcontext() as keep:
            records = read_pictures(
                samples(notes.append), encoder, memory, say=notes.append, step=_reading(watch), keep=keep
            )
        examples = choose(records, encoder, memory, say=notes.append, step=steps(watch))
        everyday = embed_texts(EVERYDAY, encoder, memory, step=steps(watch))
    finally:
        memory.save()
    require_parts(examples)
    before = Embedded(examples.images[examples.pictures(HELD_OUT)], examples.prompts)
    previous = None
    if there:
        again = samples(lambda line: None)
        previous = _previous(out, examples, encoder, load, again, watch, notes.append)
    epochs = epochs or EPOCHS[method]
    if method == "linear":
        made = by_linear(encoder, examples, everyday, out, epochs, rank, seed, watch)
    else:
        assert towers is not None
        made = by_lora(towers, encoder, examples, work, load, epochs, rank, alpha, seed, watch)
    changes = compare(examples, before, made.held_out, seed=seed)
    changes_previous = compare(examples, previous, made.held_out, seed=seed) if previous else []
    moved = drift(everyday, made.everyday)
    data = Data(
        source=source,
        words=examples.kind,
        pictures=len(examples.images),
        texts=len(examples.texts),
        learned=len(examples.pictures(LEARN)),
        stopping=len(examples.pictures(VALIDATE)),
        held_out=len(examples.pictures(HELD_OUT)),
    )
    why_not = "" if force else _objection(made.epochs, changes, changes_previous, encoder.spec, out)
    if not why_not:
        record = {
            "method": method,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": seed,
            "epochs": made.epochs,
            "data": asdict(data),
            "held_out": [asdict(change) for change in changes],
            "drift": asdict(moved),
        }
        with beside(out) as folder:
            made.write(folder, record)
            put(folder, out)
        shutil.rmtree(work, ignore_errors=True)
    return Finetuned(
        out=f"local-dir:{out}",
        base=root.spec,
        method=method,
        fingerprint=made.fingerprint,
        seed=seed,
        epochs=made.epochs,
        data=data,
        changes=changes,
        changes_previous=changes_previous,
        drift=moved,
        written=not why_not,
        why_not=why_not,
        notes=notes,
    )


def _previous(
    out: Path,
    examples: Examples,
    encoder: Encoder,
    load: Callable[[str], Encoder],
    samples: Iterator[Sample],
    watch: Watch,
    say: Say,
) -> Embedded | None:
    """Return the held-out pictures by the encoder in the folder.

    None where it is the base itself, or cannot be used any more: then there is nothing to lose.
    """
    try:
        previous = load(f"local-dir:{out}")
        if previous.fingerprint == encoder.fingerprint:
            return None
        held_out = examples.pictures(HELD_OUT)
        if isinstance(previous, AdaptedEncoder) and previous.base.fingerprint == encoder.fingerprint:
            return Embedded(
                normalize(examples.images[held_out] @ previous.image.T),
                normalize(examples.prompts @ previous.text.T),
            )
        contents = [examples.contents[picture] for picture in held_out]
        wanted, memory = frozenset(contents), Memory(None, previous.dim)
        again = (sample for sample in samples if hashlib.sha256(sample.image).digest() in wanted)
        read_pictures(again, previous, memory, say=lambda line: None, step=_reading(watch))
        return Embedded(
            memory.vectors(contents),
            embed_prompts(examples.kind, examples.texts, previous, memory, step=steps(watch)),
        )
    except EncoderError as error:
        say(f"what is in {out} cannot be used any more and is no measure: {error}")
        return None


def require_parts(examples: Examples) -> None:
    """Raise UsageError when no picture is left to judge, to stop or to learn by."""
    for part in (LEARN, VALIDATE, HELD_OUT):
        if not len(examples.pictures(part)):
            raise UsageError(
                "the pictures share their captions so much that none can be held out to judge by; "
                "give pictures with captions of their own, or folders of several kinds"
                if examples.kind == "captions"
                else "no class has the four pictures that it takes to learn, to stop and to judge by; "
                "give more pictures of each kind"
            )


def _objection(
    epochs: int, changes: list[Change], changes_previous: list[Change], base: str, out: Path
) -> str:
    """Return why the result should not be written, empty when it may be."""
    for against, name in ((changes, base), (changes_previous, f"the encoder already in {out}")):
        if against and against[-1].difference < 0:
            return (
                f"worse than {name} on held-out pictures ({against[-1].after:.1f}, was "
                f"{against[-1].before:.1f}); nothing was written. More pictures or more exact words help; "
                "--force writes it all the same"
            )
    if not epochs:
        return (
            "nothing was learned that helps with pictures it has not seen; nothing was written. More "
            "pictures or more exact words help; --force writes it all the same"
        )
    return ""


def _remembered(cache_dir: Path | None, encoder: Encoder, source: str) -> Path | None:
    """Return the file that keeps a source's embeddings by an encoder."""
    if cache_dir is None:
        return None
    where = hashlib.sha256(os.fsencode(os.path.abspath(source))).hexdigest()[:16]
    return cache_dir / "embeddings" / f"{encoder.fingerprint[:32]}-{where}.npz"


def _reading(watch: Watch) -> Callable[[int, int], None]:
    """The total is what was read so far: a folder's end is not known before it is reached."""
    return lambda total, done: watch(Progress(total, done, scanning=True))
