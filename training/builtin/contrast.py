"""Second stage: pictures and sentences side by side, while the text tower keeps listening to its teacher.

One step sees a batch of pictures, an English sentence of each, a Chinese one where there is one, some
sentences alone, the ImageNet classifier's opinion, and the captions that the decoder is to write.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.builtin.distil import TextData
from training.builtin.features import PictureSet
from training.builtin.losses import caption_loss, class_loss, contrastive_loss, distillation_loss
from training.builtin.models import Decoder, ImageHead, TextTower
from training.judging.metrics import Recall, owners, recall
from training.run import Run

log = logging.getLogger(__name__)
WEIGHTS = {
    "flickr8k": 1.0,
    "coco": 1.0,
    "openstax": 0.5,
    "imagenet_samples": 0.4,
    "caltech101": 0.3,
    "flowers": 0.15,
    "pacs": 0.2,
    "drawings": 0.5,
    "plain": 0.2,
}
"""Weight of a set's pairs in the loss; label prompts say little about a picture."""
SHARE = {"caltech101": 0.5, "flowers": 0.34, "pacs": 0.5, "drawings": 0.5, "plain": 0.34}
"""Share of a set's pictures seen per epoch, 1 where not named."""
TOLD = ("flickr8k", "coco")
"""Sets whose captions the decoder learns to write."""
SAME = 0.88
"""Teacher cosine from which two sentences describe the same thing: not a negative of one another."""


class Towers(nn.Module):
    """Both towers, the decoder and the inverse temperatures, trained together."""

    def __init__(self, text: TextTower, head: ImageHead, decoder: Decoder) -> None:
        super().__init__()
        self.text, self.head, self.decoder = text, head, decoder
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.log_scale_chinese = nn.Parameter(torch.tensor(3.0))
        self.log_scale_teacher = nn.Parameter(torch.tensor(3.0))
        self.log_scale_class = nn.Parameter(torch.tensor(3.0))

    def scale(self, name: str = "") -> Tensor:
        """Return an inverse temperature, at most 100."""
        value: Tensor = getattr(self, f"log_scale{'_' + name if name else ''}")
        return value.exp().clamp(max=100)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every picture of every set, with the rows of its sentences in the text data.

    Attributes:
        sets: the cached sets.
        index: (n, 2) which set, which picture.
        english, chinese: per pair, the rows of its sentences; chinese may be empty.
        weights: (n,) of the pairs.
        groups: (n,) number shared by pictures with the very same sentences (one label, one kind).
        soft: per set, (pictures, 1000) float16 of the ImageNet classifier; empty where it was not asked.
    """

    sets: tuple[PictureSet, ...]
    index: npt.NDArray[np.int64]
    english: tuple[npt.NDArray[np.int64], ...]
    chinese: tuple[npt.NDArray[np.int64], ...]
    weights: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]
    soft: tuple[npt.NDArray[np.float16], ...] = field(default=())

    @classmethod
    def of(
        cls, sets: Sequence[PictureSet], data: TextData, soft: Sequence[npt.NDArray[np.float16]] = ()
    ) -> Pairs:
        """Return the pairs; captions that are not training sentences (development captions) fall out."""
        index, weights, groups = [], [], []
        english: list[npt.NDArray[np.int64]] = []
        chinese: list[npt.NDArray[np.int64]] = []
        seen: dict[tuple[str, ...], int] = {}
        for number, pictures in enumerate(sets):
            for picture, captions in enumerate(pictures.english):
                rows = data.known(captions)
                if len(rows):
                    english.append(rows)
                    chinese.append(data.known(pictures.chinese[picture]))
                    index.append((number, picture))
                    weights.append(WEIGHTS[pictures.name])
                    groups.append(seen.setdefault(captions, len(seen)))
        return cls(
            tuple(sets),
            np.array(index),
            tuple(english),
            tuple(chinese),
            np.array(weights, dtype=np.float32),
            np.array(groups, dtype=np.int64),
            tuple(soft),
        )

    def epoch(self, batch: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the positions in `index` of each batch of one epoch."""
        share = np.array([SHARE.get(pictures.name, 1.0) for pictures in self.sets])
        kept = np.flatnonzero(rng.random(len(self.index)) < share[self.index[:, 0]])
        order = rng.permutation(kept)
        for start in range(0, len(order) - batch // 2, batch):
            yield order[start : start + batch]

    def of_sets(self, names: Sequence[str]) -> Pairs:
        """Return the pairs of the sets of these names."""
        wanted = [pictures.name in names for pictures in self.sets]
        kept = [number for number, (which, _) in enumerate(self.index) if wanted[which]]
        return replace(
            self,
            index=self.index[kept],
            english=tuple(self.english[number] for number in kept),
            chinese=tuple(self.chinese[number] for number in kept),
            weights=self.weights[kept],
            groups=self.groups[kept],
        )

    def maps(self, positions: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Return (n, *MAPS) float32: one cached view of each picture, picked at random."""
        picked = []
        for number, picture in self.index[positions]:
            views = self.sets[number].views
            picked.append(views[rng.integers(len(views))][picture])
        return torch.from_numpy(np.stack(picked).astype(np.float32))

    def captions(
        self,
        positions: npt.NDArray[np.int64],
        rows: Sequence[npt.NDArray[np.int64]],
        rng: np.random.Generator,
    ) -> npt.NDArray[np.int64]:
        """Return (n,) one of the `rows` (`english` or `chinese`) of each picture, picked at random."""
        return np.array([rng.choice(rows[position]) for position in positions], dtype=np.int64)

    def opinions(self, positions: npt.NDArray[np.int64]) -> Tensor | None:
        """Return (n, 1000) float32 of the ImageNet classifier, or None where it was not asked."""
        if not self.soft:
            return None
        rows = [self.soft[number][picture] for number, picture in self.index[positions]]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def told(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return (n,) whether the decoder learns from the pair's sentences."""
        names = np.array([pictures.name in TOLD for pictures in self.sets])
        return np.asarray(names[self.index[positions, 0]])


@torch.inference_mode()
def embed_maps(head: ImageHead, maps: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Return (n, dim) embeddings of cached maps."""
    head.eval()
    parts = [
        head(torch.from_numpy(maps[i : i + 256].astype(np.float32)))[0].numpy()
        for i in range(0, len(maps), 256)
    ]
    return np.concatenate(parts)


@torch.inference_mode()
def embed_ids(text: TextTower, ids: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Return (n, dim) embeddings of token ids."""
    text.eval()
    out = []
    for start in range(0, len(ids), 256):
        part = ids[start : start + 256]
        longest = max(1, int((part != 0).sum(1).max()))
        out.append(text(torch.from_numpy(part[:, :longest].astype(np.int64))).numpy())
    return np.concatenate(out)


def embed_rows(text: TextTower, data: TextData, rows: npt.NDArray[np.int64], parts: int = 4) -> Tensor:
    """Return (len(rows), dim) embeddings with gradients; rows go through in parts of like length."""
    order = np.argsort(data.lengths[rows], kind="stable")
    pieces = [text(data.batch(rows[part])[0]) for part in np.array_split(order, parts) if len(part)]
    return torch.cat(pieces)[torch.from_numpy(np.argsort(order, kind="stable"))]


@dataclass(frozen=True, slots=True)
class Dev:
    """A cached development set, to watch; nothing is trained on it.

    Attributes:
        pictures: one view.
        sentences: language to the ids of its captions, in order.
    """

    pictures: PictureSet
    sentences: dict[str, npt.NDArray[np.int16]]

    def recall(self, towers: Towers) -> dict[str, Recall]:
        """Return language to recall."""
        images = embed_maps(towers.head, self.pictures.views[0])
        captions = {"english": self.pictures.english, "chinese": self.pictures.chinese}
        return {
            language: recall(images, embed_ids(towers.text, ids), owners(captions[language]))
            for language, ids in self.sentences.items()
        }


@dataclass(frozen=True, slots=True)
class Settings:
    """Lengths, learning rates and weights of the losses of the stage.

    Attributes:
        epochs, batch: length; pictures a step.
        wide: sentences alone per step.
        alone: what is trained alone: `head` learns from the teacher's embeddings and the classifier,
            `decoder` from captions while the picture tower rests; empty trains all.
        rate, text_rate, upper_rate: peak learning rates of the head and decoder, the text tower, the
            backbone's upper layers.
        teacher, chinese, classes, told, teach: weights of the losses beside the one between the towers:
            pictures against the teacher's embeddings, Chinese, the classifier, captions, distillation.
        chinese_share: of a batch's Chinese sentences, how many are read; told_share: captions written per
            picture of a batch, while both towers learn. They save time.
    """

    epochs: int = 32
    batch: int = 512
    wide: int = 96
    alone: Literal["", "head", "decoder"] = ""
    rate: float = 6e-4
    text_rate: float = 6e-4
    upper_rate: float = 1e-4
    teacher: float = 0.3
    chinese: float = 0.5
    classes: float = 0.1
    told: float = 0.5
    teach: float = 3.0
    chinese_share: float = 0.6
    told_share: float = 0.25
    weight_decay: float = 0.05


class Step:
    """The loss of one batch.

    Args:
        towers: what is trained.
        pairs, data: pictures and sentences.
        captions: (sentences, length) the decoder's ids of every sentence of `data`, 0 where it has none.
        classes: (1000, dim) the teacher's embeddings of the ImageNet names, or None.
    """

    def __init__(
        self,
        towers: Towers,
        pairs: Pairs,
        data: TextData,
        captions: npt.NDArray[np.int16],
        classes: npt.NDArray[np.float32] | None,
        settings: Settings,
    ) -> None:
        self.towers, self.pairs, self.data, self.captions = towers, pairs, data, captions
        self.classes = torch.from_numpy(classes) if classes is not None else None
        self.settings = settings

    def losses(self, positions: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return each part of the loss, weighed; their sum is what is minimised."""
        towers, pairs, data, s = self.towers, self.pairs, self.data, self.settings
        rows = pairs.captions(positions, pairs.english, rng)
        maps = pairs.maps(positions, rng)
        if s.alone == "decoder":
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                seen = towers.head(maps)[1]
            return self._told(seen, positions, rows)
        targets = data.vectors(rows)
        group = torch.from_numpy(pairs.groups[positions])
        same = (targets @ targets.T > SAME) | (group[:, None] == group[None, :])
        weights = torch.from_numpy(pairs.weights[positions])
        with torch.autocast("cpu", torch.bfloat16):
            images, seen = towers.head(maps)
        among_teacher = contrastive_loss(images, targets, towers.scale("teacher"), same, weights)
        parts = {"teacher": s.teacher * among_teacher}
        soft = pairs.opinions(positions)
        if soft is not None and self.classes is not None:
            parts["classes"] = s.classes * class_loss(images, self.classes, towers.scale("class"), soft)
        if s.alone == "head":
            return parts
        has = np.flatnonzero([len(pairs.chinese[position]) > 0 for position in positions])
        has = has[rng.random(len(has)) < s.chinese_share]
        chinese = pairs.captions(positions[has], pairs.chinese, rng)
        every = np.concatenate([rows, chinese, rng.integers(len(data.ids), size=s.wide)])
        with torch.autocast("cpu", torch.bfloat16):
            texts = embed_rows(towers.text, data, every)
        parts["english"] = contrastive_loss(images, texts[: len(rows)], towers.scale(), same, weights)
        if len(has) > 1:
            among = torch.from_numpy(has)
            student = texts[len(rows) : len(rows) + len(has)]
            parts["chinese"] = s.chinese * contrastive_loss(
                images[among], student, towers.scale("chinese"), same[among][:, among], weights[among]
            )
        parts["teach"] = s.teach * distillation_loss(texts, data.vectors(every))
        return parts | self._told(seen, positions, rows)

    def _told(
        self, seen: Tensor, positions: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> dict[str, Tensor]:
        """Return the captioning loss of those pictures whose sentence the decoder is to write."""
        told = np.flatnonzero(self.pairs.told(positions) & (self.captions[rows, 0] != 0))
        if not self.settings.alone:
            told = told[: int(len(positions) * self.settings.told_share)]
        if not len(told):
            return {}
        written = self.captions[rows[told]]
        ids = torch.from_numpy(written[:, : int((written != 0).sum(1).max())].astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.towers.decoder(seen[torch.from_numpy(told)], ids[:, :-1])
        return {"told": self.settings.told * caption_loss(logits, ids)}


def train_towers(
    step: Step, *, folder: Path, dev: Dev | None = None, seed: int = 0, name: str = "contrast"
) -> list[float]:
    """Train both towers in place (they end as their own average); return the mean loss of each epoch run.

    Every epoch ends in a checkpoint, `folder/NAME.safetensors`, and a line of `folder/NAME.csv`.
    """
    settings, towers = step.settings, step.towers
    torch.manual_seed(seed)
    trained = {"": towers, "head": towers.head, "decoder": towers.decoder}[settings.alone]
    towers.requires_grad_(not settings.alone)
    trained.requires_grad_(True)
    towers.log_scale_teacher.requires_grad_(settings.alone != "decoder")
    towers.log_scale_class.requires_grad_(settings.alone != "decoder")
    steps = settings.epochs * len(list(step.pairs.epoch(settings.batch, np.random.default_rng(0))))
    groups = {
        "text.": settings.text_rate,
        "head.top.": settings.upper_rate,
        "head.blocks.": settings.upper_rate,
    }
    run = Run(
        towers,
        steps=steps,
        rate=settings.rate,
        groups=groups,
        weight_decay=settings.weight_decay,
        decay=0.995,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    run.resume(path)
    curve = []
    while run.epoch < settings.epochs:
        rng = np.random.default_rng((seed, 7, run.epoch))
        torch.manual_seed(seed * 1000 + run.epoch)
        towers.train(not settings.alone)
        trained.train()
        began = time.monotonic()
        sums: dict[str, list[float]] = {}
        for positions in step.pairs.epoch(settings.batch, rng):
            parts = step.losses(positions, rng)
            sums.setdefault("loss", []).append(run.step(torch.stack(list(parts.values())).sum()))
            for part, value in parts.items():
                sums.setdefault(part, []).append(float(value.detach()))
        run.epoch += 1
        run.save(path)
        means = {part: float(np.mean(values)) for part, values in sums.items()}
        curve.append(means["loss"])
        line = f"{name} epoch {run.epoch}/{settings.epochs}, {time.monotonic() - began:.0f} s:"
        line += "".join(f" {part} {value:.3f}" for part, value in means.items())
        if dev is not None and (run.epoch % 4 == 0 or run.epoch == settings.epochs):
            kept = {key: value.clone() for key, value in towers.state_dict().items()}
            towers.load_state_dict(run.average)
            for language, found in dev.recall(towers).items():
                line += f" | {language} " + " ".join(f"{value:.1f}" for value in found.text_to_image.values())
            towers.load_state_dict(kept)
        log.info(line)
    towers.load_state_dict(run.average)
    return curve
