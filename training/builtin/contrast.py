"""Second stage: pictures and sentences side by side, while the text tower keeps listening to its teacher."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.builtin.distil import TextData
from training.builtin.features import PictureSet
from training.builtin.losses import contrastive_loss, distillation_loss
from training.builtin.models import ImageHead, TextTower
from training.evaluate import Recall, owners, recall
from training.run import Run

WEIGHTS = {
    "flickr8k": 1.0,
    "coco": 1.0,
    "openstax": 0.5,
    "imagenet_samples": 0.3,
    "caltech101": 0.15,
    "flowers": 0.15,
    "pacs": 0.15,
    "drawings": 1.0,
}
"""Weight of a set's pairs in the loss; label prompts say little about a picture."""
SHARE = {"caltech101": 0.34, "flowers": 0.34, "pacs": 0.5}
"""Share of a set's pictures seen per epoch, 1 where not named."""
SAME = 0.88
"""Teacher cosine from which two sentences describe the same thing: not a negative of one another."""


class Towers(nn.Module):
    """Both towers and the inverse temperatures, trained together."""

    def __init__(self, text: TextTower, head: ImageHead) -> None:
        super().__init__()
        self.text, self.head = text, head
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.log_scale_teacher = nn.Parameter(torch.tensor(3.0))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every picture of every set, with the rows of its sentences in the text data.

    Attributes:
        sets: the cached sets.
        index: (n, 2) which set, which picture.
        rows: per set and picture, the rows of its captions.
        weights: (n,) of the pairs.
        groups: (n,) number shared by pictures with the very same sentences (one label, one kind).
    """

    sets: tuple[PictureSet, ...]
    index: npt.NDArray[np.int64]
    rows: tuple[tuple[npt.NDArray[np.int64], ...], ...]
    weights: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[PictureSet], data: TextData) -> Pairs:
        """Return the pairs; captions that are not training sentences (development captions) fall out."""
        index, weights, rows, groups = [], [], [], []
        seen: dict[tuple[str, ...], int] = {}
        for number, pictures in enumerate(sets):
            mine = []
            for picture, captions in enumerate(pictures.captions):
                mine.append(np.array([data.rows[c] for c in captions if c in data.rows], dtype=np.int64))
                if len(mine[-1]):
                    index.append((number, picture))
                    weights.append(WEIGHTS[pictures.name])
                    groups.append(seen.setdefault(captions, len(seen)))
            rows.append(tuple(mine))
        weighed = np.array(weights, dtype=np.float32)
        return cls(tuple(sets), np.array(index), tuple(rows), weighed, np.array(groups, dtype=np.int64))

    def epoch(self, batch: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the positions in `index` of each batch of one epoch."""
        share = np.array([SHARE.get(pictures.name, 1.0) for pictures in self.sets])
        kept = np.flatnonzero(rng.random(len(self.index)) < share[self.index[:, 0]])
        order = rng.permutation(kept)
        for start in range(0, len(order) - batch // 2, batch):
            yield order[start : start + batch]

    def maps(self, positions: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Return (n, 320, 7, 7) float32: one cached view of each picture, picked at random."""
        picked = []
        for number, picture in self.index[positions]:
            views = self.sets[number].views
            picked.append(views[rng.integers(len(views))][picture])
        return torch.from_numpy(np.stack(picked).astype(np.float32))

    def captions(self, positions: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return (n,) the row of one caption of each picture, picked at random."""
        return np.array([rng.choice(self.rows[number][picture]) for number, picture in self.index[positions]])


@torch.inference_mode()
def embed_maps(head: ImageHead, maps: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Return (n, dim) embeddings of cached maps."""
    head.eval()
    parts = [
        head(torch.from_numpy(maps[i : i + 256].astype(np.float32))).numpy() for i in range(0, len(maps), 256)
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
    pieces = [text(data.batch(rows[part])[0]) for part in np.array_split(order, parts)]
    return torch.cat(pieces)[torch.from_numpy(np.argsort(order, kind="stable"))]


def dev_recall(towers: Towers, dev: PictureSet, ids: npt.NDArray[np.int16]) -> Recall:
    """Return recall on a cached development set; ids are its captions in order."""
    return recall(embed_maps(towers.head, dev.views[0]), embed_ids(towers.text, ids), owners(dev.captions))


def train_towers(
    towers: Towers,
    pairs: Pairs,
    data: TextData,
    *,
    folder: Path,
    epochs: int,
    dev: tuple[PictureSet, npt.NDArray[np.int16]] | None = None,
    batch: int = 512,
    rate: float = 1e-3,
    text_rate: float = 3e-4,
    top_rate: float = 1e-4,
    wide: int = 256,
    teach: float = 2.0,
    seed: int = 0,
    name: str = "contrast",
) -> list[float]:
    """Train both towers in place (they end as their own average); return the mean loss of each epoch.

    Per step: `batch` pictures against the student's and the teacher's embeddings of one caption each, and
    the distillation loss on those captions and on `wide` other sentences. `text_rate` 0 freezes the text
    tower and leaves it out: the picture head alone learns from the teacher's embeddings.
    """
    torch.manual_seed(seed)
    joint = text_rate > 0
    towers.text.requires_grad_(joint)
    steps = epochs * len(list(pairs.epoch(batch, np.random.default_rng(0))))
    groups = {"text.": text_rate, "head.top.": top_rate}
    run = Run(towers, steps=steps, rate=rate, groups=groups, weight_decay=0.05, decay=0.995)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    run.resume(path)
    curve = []
    while run.epoch < epochs:
        rng = np.random.default_rng((seed, 7, run.epoch))
        torch.manual_seed(seed * 1000 + run.epoch)
        towers.train()
        began, losses = time.monotonic(), []
        for positions in pairs.epoch(batch, rng):
            rows = pairs.captions(positions, rng)
            targets = torch.from_numpy(data.targets[rows].astype(np.float32))
            group = torch.from_numpy(pairs.groups[positions])
            same = (targets @ targets.T > SAME) | (group[:, None] == group[None, :])
            weights = torch.from_numpy(pairs.weights[positions])
            with torch.autocast("cpu", torch.bfloat16):
                images = towers.head(pairs.maps(positions, rng))
            scale = towers.log_scale_teacher.exp().clamp(max=100)
            loss = contrastive_loss(images, targets, scale, same, weights)
            if joint:
                rows = np.concatenate([rows, rng.integers(len(data.ids), size=wide)])
                all_targets = torch.from_numpy(data.targets[rows].astype(np.float32))
                with torch.autocast("cpu", torch.bfloat16):
                    texts = embed_rows(towers.text, data, rows)
                student = texts[: len(positions)]
                scale = towers.log_scale.exp().clamp(max=100)
                loss = 0.3 * loss + contrastive_loss(images, student, scale, same, weights)
                loss = loss + teach * distillation_loss(texts, all_targets)
            losses.append(run.step(loss))
        run.epoch += 1
        run.save(path)
        curve.append(float(np.mean(losses)))
        line = f"{name} epoch {run.epoch}/{epochs}: {curve[-1]:.4f}, {time.monotonic() - began:.0f} s"
        if dev is not None and (run.epoch % 5 == 0 or run.epoch == epochs):
            kept = {key: value.clone() for key, value in towers.state_dict().items()}
            towers.load_state_dict(run.average)
            line += " | " + str(dev_recall(towers, *dev)).replace("\n", " | ")
            towers.load_state_dict(kept)
        print(line, flush=True)
    towers.load_state_dict(run.average)
    return curve
