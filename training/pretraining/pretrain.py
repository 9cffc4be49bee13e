"""Pre-training of an open_clip architecture on a person's pictures: the loop, from recipe to encoder.

    out/open_clip_config.json, open_clip_model.safetensors, ...   the encoder, for local-dir:
    out/log.csv                                                   what `log` writes
    out/training/checkpoint.safetensors                           what `Run` writes
    out/training/pictures.*, teacher-*.npy                        caches

A training is its recipe and its data: the same command goes on from the checkpoint after Ctrl-C, kill -9 or
a power cut, and ends with the weights of a run that was never stopped.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from encoders import EncoderError, UsageError, load_encoder
from training.judging.metrics import RANKS, distinct, retrieve
from training.pretraining.architecture import CONFIG, build, save
from training.pretraining.batches import Batch, Batches
from training.pretraining.checkpoint import checkpoint_of, hold, metadata, refuse_other, work_folder
from training.pretraining.log import TrainingLog, read_log
from training.pretraining.objective import Inputs, Learner, Objective
from training.pretraining.pack import HELD_OUT, Stopped, open_pack, split
from training.pretraining.progress import EpochEnd, Stage, Trained
from training.pretraining.recipes import OpenClipRecipe
from training.pretraining.teaching import Lessons, ask, read_lines
from training.run import DivergedError, Run


def pretrain_model(
    recipe: OpenClipRecipe,
    *,
    cache_dir: Path,
    changed: bool = False,
    offline: bool = False,
    stop: threading.Event | None = None,
    report: Callable[[Stage], None] = lambda stage: None,
    on_epoch: Callable[[EpochEnd], None] = lambda end: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train the model of a recipe, or go on with it, and write the encoder to its `out`.

    Args:
        cache_dir: where `load_encoder` keeps the teacher.
        changed: go on from a checkpoint although rates, losses or lengths in the recipe changed since.
        stop: set it to have a checkpoint written and the call return.
        report: told after every step and piece of preparation.
        tell: told, one line each, what was left out of the data.
    Raises:
        UsageError: recipe and data do not make sense together.
        EncoderError: the checkpoint is of another recipe, the loss is NaN or infinite, open_clip refuses,
            `out` cannot be written.
    """
    with hold(recipe.out):
        training = _Training(recipe, cache_dir, changed, offline, stop, report, on_epoch, tell)
        try:
            return training.go()
        except OSError as error:
            raise EncoderError(
                f"{error.filename or recipe.out}: {error.strerror or error}; make room there or put it back, "
                "then run the same command again: it goes on from its last checkpoint"
            ) from error


@dataclass(slots=True)
class _Interval:
    """What happened since the last row of the log."""

    parts: dict[str, list[float]] = field(default_factory=dict)
    pictures: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, losses: dict[str, float], pictures: int) -> float:
        """Take up a step; return its whole loss."""
        for name, value in losses.items():
            self.parts.setdefault(name, []).append(value)
        self.pictures += pictures
        return sum(losses.values())


class _Training:
    def __init__(
        self,
        recipe: OpenClipRecipe,
        cache_dir: Path,
        changed: bool,
        offline: bool,
        stop: threading.Event | None,
        report: Callable[[Stage], None],
        on_epoch: Callable[[EpochEnd], None],
        tell: Callable[[str], None],
    ) -> None:
        self.recipe, self.cache_dir, self.changed, self.offline = recipe, cache_dir, changed, offline
        self.stop = stop or threading.Event()
        self.report, self.on_epoch, self.tell = report, on_epoch, tell
        self.folder, self.checkpoint = work_folder(recipe.out), checkpoint_of(recipe.out)

    def go(self) -> Trained:
        recipe = self.recipe
        self.device = _device(recipe.device)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.architecture = build(recipe)
        self.facts = recipe.facts(self.architecture.config)
        refuse_other(recipe.out, self.facts, changed=self.changed)
        try:
            self._prepare()
        except Stopped:
            return self._result(stopped=True)
        return self._train()

    # --- before the first step

    def _prepare(self) -> None:
        """Read the pictures, ask the teacher, and set up the run where its checkpoint left it."""
        recipe, architecture = self.recipe, self.architecture
        size, teacher = architecture.preprocess.size, None
        if recipe.teacher.encoder:
            teacher = load_encoder(
                recipe.teacher.encoder, cache_dir=self.cache_dir, offline=self.offline, on_wait=self.tell
            )
            if recipe.loss == "distill":
                size = max(size, teacher.image_size)
        self.pack = open_pack(
            recipe, size, self.folder,
            report=lambda done: self.report(Stage("reading pictures", done, 0)), stop=self.stop,
        )  # fmt: skip
        for note in self.pack.notes:
            self.tell(note)
        trained, self.held = split(self.pack, fraction=recipe.held_out.fraction, seed=recipe.seed)
        if len(trained) < 2:
            raise UsageError(
                f"{len(trained)} pictures to learn from, it takes two; add data or hold out less"
            )
        self.learned = len(trained)
        own = sum(picture.data != HELD_OUT for picture in self.pack.pictures)
        if recipe.held_out.source is not None and own > len(trained):
            self.tell(f"{own - len(trained)} pictures are held-out ones too and were left out")
        if teacher is not None:
            captions = [text for number in self.held for text in self.pack.pictures[number].texts]
            lines, removed = read_lines(recipe.teacher.texts, leave_out=captions)
            if removed:
                self.tell(f"teacher.texts: {removed} lines are held-out captions and were left out")
            if recipe.teacher.texts and not lines:
                raise UsageError("teacher.texts: every line is a held-out caption; add others")
        self.lessons: Lessons | None = None
        if teacher is not None:
            self.lessons = ask(
                teacher, self.pack, lines, self.folder, images=recipe.loss == "distill",
                report=lambda what, done, total: self.report(Stage(what, done, total)), stop=self.stop,
            )  # fmt: skip
        refuse_other(recipe.out, self.facts, data=self.pack.digest, changed=self.changed)
        self.batches = Batches(
            self.pack,
            trained,
            [recipe.data[self.pack.pictures[number].data].weight for number in trained],
            architecture.preprocess,
            size=recipe.batch * recipe.accumulate,
            strength=recipe.augment,
            seed=recipe.seed,
            threads=min(16, recipe.threads or os.cpu_count() or 1),
        )
        if self.batches.pictures_per_epoch < 2:
            raise UsageError("the weights in [[data]] leave fewer than two pictures in an epoch; raise them")
        self.run, self.objective = self._new_run()
        if self.checkpoint.exists():
            try:
                self.run.resume(self.checkpoint)
            except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
                raise EncoderError(
                    f"{self.checkpoint} does not fit the model ({' '.join(str(error).split())[:160]}); "
                    "it was left as it is: move it away to start anew"
                ) from None
        self.log = TrainingLog(recipe.out / "log.csv", self.objective.parts, step=self.run.step_number)

    def _new_run(self) -> tuple[Run, Objective]:
        recipe, rates = self.recipe, self.recipe.rates
        torch.manual_seed(recipe.seed)
        learner = Learner(self.architecture, self.lessons.dim if self.lessons else None).to(self.device)
        groups = self.architecture.groups(image=rates.image, text=rates.text, decoder=rates.decoder)
        groups = {f"model.{prefix}": rate for prefix, rate in groups.items()}
        for name, parameter in learner.named_parameters():
            rate = next((r for prefix, r in groups.items() if name.startswith(prefix)), rates.rest)
            parameter.requires_grad_(rate > 0)
        if not any(parameter.requires_grad for parameter in learner.parameters()):
            raise UsageError("all rates are 0: nothing would be learned; set rates.image or rates.text")
        steps = recipe.epochs * self.batches.steps
        run = Run(
            learner, steps=steps, rate=rates.rest, groups=groups, weight_decay=recipe.weight_decay,
            decay=recipe.ema, warmup=round(steps * recipe.warmup), clip_norm=recipe.clip_norm,
        )  # fmt: skip
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
        return run, Objective(recipe, learner, autocast=autocast)

    # --- the loop

    def _train(self) -> Trained:
        run, recipe, per_epoch = self.run, self.recipe, self.batches.steps
        already = run.epoch >= recipe.epochs
        self.began, self.first = time.monotonic(), run.step_number
        while run.epoch < recipe.epochs:
            interval, losses = _Interval(), []
            for batch in self.batches.epoch(run.epoch, first=run.step_number - run.epoch * per_epoch):
                losses.append(self._step(batch, interval))
                at_end = run.step_number == (run.epoch + 1) * per_epoch
                self.report(Stage("training", run.step_number, run.steps, losses[-1]))
                if self.stop.is_set() and not at_end:
                    self._log(interval)
                    self._save_checkpoint()
                    return self._result(stopped=True)
                if run.step_number % recipe.checkpoint_every == 0 and not at_end:
                    self._log(interval)
                    self._save_checkpoint()
                    interval = _Interval()
                elif run.step_number % recipe.log_every == 0 and not at_end:
                    self._log(interval)
                    interval = _Interval()
            found: dict[int, float] | None = None
            if self.held and ((run.epoch + 1) % recipe.held_out.every == 0 or run.epoch + 1 == recipe.epochs):
                found = self._recall()
            self._log(interval, found)
            run.epoch += 1
            self._save_checkpoint()
            self.on_epoch(
                EpochEnd(run.epoch, recipe.epochs, float(np.mean(losses)), found, self._seconds_left())
            )
            if self.stop.is_set() and run.epoch < recipe.epochs:
                return self._result(stopped=True)
        if not (already and (recipe.out / CONFIG).exists()):
            self._export()
        return self._result(stopped=False, already=already)

    def _step(self, batch: Batch, interval: _Interval) -> float:
        """Take one step; return its loss. Raises EncoderError when it is NaN or infinite."""
        run = self.run
        learner = self.objective.learner
        learner.train()
        run.optimizer.zero_grad(set_to_none=True)
        losses = self.objective.backward(self._inputs(batch))
        loss = interval.add(losses, len(batch.texts))
        try:
            if not math.isfinite(loss):
                raise DivergedError(f"the loss is {loss} at step {run.step_number + 1}")
            run.apply()
        except DivergedError as error:
            kept = (
                f"the checkpoint of an earlier step is kept; {self._lower()} and go on with --changed"
                if self.checkpoint.exists()
                else f"{self._lower()} and start again"
            )
            raise EncoderError(f"{error} (epoch {run.epoch + 1}); {kept}") from None
        learner.limit()
        return loss

    def _lower(self) -> str:
        rates = self.recipe.rates
        precision = ', set precision = "fp32"' if self.recipe.precision == "bf16" else ""
        return f"lower rates (image {rates.image:g}, text {rates.text:g}) or raise warmup{precision}"

    def _inputs(self, batch: Batch) -> Inputs:
        recipe, lessons, run = self.recipe, self.lessons, self.run
        step = run.step_number - run.epoch * self.batches.steps

        def on_device(rows: Any) -> torch.Tensor:
            return torch.from_numpy(np.asarray(rows, dtype=np.float32)).to(self.device)

        taught: dict[str, torch.Tensor] = {}
        if lessons is not None:
            taught["taught_texts"] = on_device(lessons.of(batch.texts))
            if recipe.loss == "distill":
                taught["taught_images"] = on_device(lessons.images[batch.numbers])
            if lessons.lines and recipe.teacher.weight:
                rows = self.batches.lines(run.epoch, step, len(lessons.lines), recipe.teacher.batch)
                lines = [lessons.lines[row] for row in rows]
                taught["line_ids"] = self.architecture.tokenizer(lines).to(self.device)
                taught["taught_lines"] = on_device(lessons.of(lines))
        return Inputs(
            pixels=self._normalized(batch.pixels),
            ids=self.architecture.tokenizer(batch.texts).to(self.device),
            key=(recipe.seed, run.epoch, step),
            **taught,
        )

    def _normalized(self, pixels: Any) -> torch.Tensor:
        """Return (n, 3, size, size) float32 on the device."""
        tensor = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            for values in (self.recipe.preprocess.mean, self.recipe.preprocess.std)
        )
        return (tensor - mean) / std

    # --- what is kept

    def _log(self, interval: _Interval, found: dict[int, float] | None = None) -> None:
        """Write a row about the steps since the last one; none where there was no step."""
        if not interval.pictures:
            return
        parts = {f"loss_{name}": float(np.mean(values)) for name, values in interval.parts.items()}
        now = time.monotonic()
        # The rate that the last step took.
        rate = max(float(group["lr"]) for group in self.run.optimizer.param_groups)
        self.log.row(
            {
                "step": self.run.step_number,
                "epoch": self.run.epoch + 1,
                "loss": sum(parts.values()),
                **parts,
                "rate": rate,
                "pictures_per_s": interval.pictures / max(now - interval.began, 1e-9),
                "seconds": self.log.seconds + now - self.began,
                **{f"recall_{k}": value for k, value in (found or {}).items()},
            }
        )

    def _save_checkpoint(self) -> None:
        """Write a checkpoint; weights that are not finite are never written over good ones."""
        for name, value in self.run.module.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise EncoderError(
                    f"{name.removeprefix('model.')} is not finite after step {self.run.step_number}; "
                    f"{self._lower()}; no checkpoint was written over"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run.save(self.checkpoint, meta=metadata(self.facts, self.pack.digest))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The learner is its own average for a while."""
        module, average = self.run.module, self.run.average
        kept = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(average)
        try:
            yield
        finally:
            module.load_state_dict(kept)

    def _recall(self) -> dict[int, float]:
        """Return held-out text-to-image recall by rank, percent: averaged weights, pictures as `index`
        shows them, a sentence said of several pictures right with any of them."""
        pictures = [self.pack.pictures[number] for number in self.held]
        texts, query_of, answer_of = distinct([picture.texts for picture in pictures])
        model: Any = self.objective.learner.model
        model.eval()
        size = self.recipe.batch
        rows, words = [], []
        with self._averaged(), torch.inference_mode(), self.objective.autocast:
            for start in range(0, len(self.held), size):
                images = [self.pack.image(number) for number in self.held[start : start + size]]
                pixels = np.stack([self.architecture.preprocess(image) for image in images])
                rows.append(
                    model.encode_image(self._normalized(pixels), normalize=True).float().cpu().numpy()
                )
            for start in range(0, len(texts), size):
                ids = self.architecture.tokenizer(texts[start : start + size]).to(self.device)
                words.append(model.encode_text(ids, normalize=True).float().cpu().numpy())
        found = retrieve(np.concatenate(words), np.concatenate(rows), query_of, answer_of).columns()
        return {k: float(found[f"recall@{k}"].mean() * 100) for k in RANKS}

    def _export(self) -> None:
        """Write the averaged model as an encoder."""
        state = {
            name.removeprefix("model."): value
            for name, value in self.run.average.items()
            if name.startswith("model.")
        }
        save(self.architecture, state, self.recipe.out, meta=metadata(self.facts, self.pack.digest))

    def _seconds_left(self) -> float:
        done = self.run.step_number - self.first
        return (time.monotonic() - self.began) / max(1, done) * (self.run.steps - self.run.step_number)

    def _result(self, *, stopped: bool, already: bool = False) -> Trained:
        out, prepared = Path(os.path.abspath(self.recipe.out)), hasattr(self, "run")
        return Trained(
            spec=f"local-dir:{out}",
            out=out,
            log=out / "log.csv",
            stopped=stopped,
            already=already,
            steps=self.run.step_number if prepared else 0,
            epochs=self.run.epoch if prepared else 0,
            pictures=self.learned if prepared else 0,
            held_out=len(self.held) if prepared else 0,
            recall=last_recall(out / "log.csv"),
            seconds=self.log.seconds + time.monotonic() - self.began if prepared else 0.0,
        )


def last_recall(log: Path) -> dict[int, float] | None:
    """Return the last recall in a log, by rank in percent; None where none was measured."""
    for row in reversed(read_log(log)):
        if row.get("recall_1"):
            return {k: float(row[f"recall_{k}"]) for k in (1, 5, 10)}
    return None


def _device(asked: str) -> torch.device:
    """Return the device of a recipe; "auto" is CUDA where there is one. Raises UsageError."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f'device: {asked!r} is not on this machine; "auto" and "cpu" always are') from None
    return device
