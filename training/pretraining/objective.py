"""What a step goes down: open_clip's losses, and a text tower's distance to its teacher's sentences."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders import quiet
from training.pretraining.architecture import Architecture
from training.pretraining.recipes import OpenClipRecipe

Features = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch as tensors on the device.

    Attributes:
        pixels: (n, 3, size, size) float32, normalised.
        ids: (n, context) int64.
        taught_images: (n, teacher dim) float32, what the teacher says of the pictures; None without one.
        taught_texts: (n, teacher dim) float32, of the sentences.
        line_ids: (m, context) int64 text-only lines; None without any.
        taught_lines: (m, teacher dim) float32.
        key: decides the dropout of this step.
    """

    pixels: Tensor
    ids: Tensor
    key: tuple[int, ...]
    taught_images: Tensor | None = None
    taught_texts: Tensor | None = None
    line_ids: Tensor | None = None
    taught_lines: Tensor | None = None


class Learner(nn.Module):
    """An open_clip model, and a bridge to its teacher's space where that has another width.

    The bridge is trained with the model and is no part of the result.
    """

    def __init__(self, architecture: Architecture, teacher_dim: int | None) -> None:
        super().__init__()
        self.model: Any = architecture.model
        self.bridge: nn.Linear | None = None
        if teacher_dim is not None and teacher_dim != architecture.dim:
            self.bridge = nn.Linear(architecture.dim, teacher_dim, bias=False)

    def towers(self, pixels: Tensor, ids: Tensor, *, captions: bool) -> Features:
        """Return `image_features` and `text_features`, (n, dim) float32 of unit norm; and with `captions`
        `logits` (n, length, vocabulary) and `labels` (n, length), where 0 is no word."""
        if captions:
            out = self.model(pixels, ids)
        else:
            out = {
                "image_features": self.model.encode_image(pixels, normalize=True),
                "text_features": self.model.encode_text(ids, normalize=True),
            }
        names = ("image_features", "text_features", "logits")
        return {name: out[name].float() for name in names if name in out} | (
            {"labels": out["labels"]} if "labels" in out else {}
        )

    def in_teacher_space(self, features: Tensor) -> Tensor:
        """Return (n, teacher dim) of unit norm."""
        return features if self.bridge is None else F.normalize(self.bridge(features), dim=-1)

    @torch.no_grad()
    def limit(self) -> None:
        """Keep the temperature in the range CLIP does. Source: arXiv:2103.00020, section 2.5."""
        self.model.logit_scale.clamp_(0, math.log(100))


class Objective:
    """The losses of a recipe; `backward` leaves the gradient of their sum in the learner."""

    def __init__(self, recipe: OpenClipRecipe, learner: Learner, *, autocast: torch.autocast) -> None:
        with quiet():
            from open_clip.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss

        self.recipe, self.learner, self.autocast = recipe, learner, autocast
        self.captions = recipe.loss == "coca"
        self._siglip, self._clip, self._distill = SigLipLoss(), ClipLoss(), DistillClipLoss()
        self._coca = CoCaLoss(caption_loss_weight=recipe.caption_weight, clip_loss_weight=0)
        self.teach = recipe.teacher.weight if recipe.teacher.encoder else 0.0
        self.parts = ("contrastive",) + (("caption",) if self.captions else ())
        self.parts += (("distill",) if recipe.loss == "distill" else ()) + (("text",) if self.teach else ())

    def backward(self, inputs: Inputs) -> dict[str, float]:
        """Return each part of the loss, weighted; their sum is what was differentiated.

        With `accumulate` above 1 the towers run on pieces of the batch and the losses on all of it: the
        gradient is that of the whole batch, in the memory of a piece.
        Source: GradCache, Gao et al. 2021, arXiv:2101.06983.
        """
        pieces = min(self.recipe.accumulate, len(inputs.ids))
        if pieces == 1:
            features = self._towers(inputs, slice(None), 0)
            losses = self.losses(features, inputs)
            if self.captions:
                losses["caption"] = self.caption(features)
        else:
            losses = self._in_pieces(inputs, pieces)
        losses = self._add_lines(losses, inputs)
        total = torch.stack(list(losses.values())).sum()
        if torch.isfinite(total) and total.requires_grad:  # in pieces, most of it has been done
            total.backward()  # type: ignore[no-untyped-call]
        return {name: float(losses[name].detach()) for name in self.parts}

    def losses(self, features: Features, inputs: Inputs) -> dict[str, Tensor]:
        """Return the losses on features of a whole batch: contrastive, distill, text."""
        images, texts = features["image_features"], features["text_features"]
        model = self.learner.model
        scale, bias = model.logit_scale.exp(), getattr(model, "logit_bias", None)
        weight = self.recipe.contrastive_weight
        if self.recipe.loss == "siglip":
            found = {"contrastive": weight * self._siglip(images, texts, scale, bias)}
        elif self.recipe.loss == "distill":
            own, distilled = self._distill(
                images, texts, scale, inputs.taught_images, inputs.taught_texts, self.recipe.teacher.scale
            )
            found = {"contrastive": weight * own, "distill": distilled}
        else:
            found = {"contrastive": weight * self._clip(images, texts, scale, logit_bias=bias)}
        if self.teach:
            assert inputs.taught_texts is not None
            found["text"] = self._share(inputs, len(texts)) * self._distance(texts, inputs.taught_texts)
        return found

    def caption(self, features: Features) -> Tensor:
        """Return the caption loss of a batch or a piece of one: the mean over its words."""
        labels, logits = features["labels"], features["logits"]
        _, loss = self._coca(features["image_features"], features["text_features"], logits, labels, None)
        return torch.as_tensor(loss)

    def _in_pieces(self, inputs: Inputs, pieces: int) -> dict[str, Tensor]:
        """Return the losses, detached; their gradient is already in the learner."""
        count = len(inputs.ids)
        edges = np.linspace(0, count, pieces + 1).round().astype(int)
        spans = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
        with torch.no_grad():
            seen = [self._towers(inputs, span, number, captions=False) for number, span in enumerate(spans)]
        names = ("image_features", "text_features")
        whole = {name: torch.cat([one[name] for one in seen]).requires_grad_() for name in names}
        losses = self.losses(whole, inputs)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            return losses | ({"caption": total.detach()} if self.captions else {})
        total.backward()  # type: ignore[no-untyped-call]
        words = (inputs.ids[:, 1:] != 0).sum()
        captioned = torch.zeros((), device=inputs.ids.device)
        for number, span in enumerate(spans):
            features = self._towers(inputs, span, number)
            behind = torch.zeros((), device=inputs.ids.device)
            for name in names:
                if (gradient := whole[name].grad) is not None:
                    behind = behind + (features[name] * gradient[span]).sum()
            if self.captions:
                share = (features["labels"] != 0).sum() / words
                caption = self.caption(features) * share
                captioned += caption.detach()
                behind = behind + caption
            if behind.requires_grad:
                behind.backward()  # type: ignore[no-untyped-call]
        done = {name: loss.detach() for name, loss in losses.items()}
        return done | ({"caption": captioned} if self.captions else {})

    def _add_lines(self, losses: dict[str, Tensor], inputs: Inputs) -> dict[str, Tensor]:
        """Return the losses with the text-only lines in `text`: the mean over captions and lines together."""
        if not self.teach or inputs.line_ids is None or inputs.taught_lines is None:
            return losses
        self._seed(inputs.key, 1 << 20)
        with self.autocast:
            texts = self.learner.model.encode_text(inputs.line_ids, normalize=True)
        distance = self._share(inputs, len(texts)) * self._distance(texts.float(), inputs.taught_lines)
        return losses | {"text": losses["text"] + distance}

    def _share(self, inputs: Inputs, count: int) -> float:
        """Return the weight of `count` sentences among the captions and lines of a step."""
        lines = 0 if inputs.line_ids is None else len(inputs.line_ids)
        return self.teach * count / (len(inputs.ids) + lines)

    def _distance(self, texts: Tensor, taught: Tensor) -> Tensor:
        """Return the mean of 1 - cosine in the teacher's space, scalar."""
        return 1 - (self.learner.in_teacher_space(texts) * taught).sum(-1).mean()

    def _towers(self, inputs: Inputs, span: slice, piece: int, *, captions: bool | None = None) -> Features:
        self._seed(inputs.key, piece)
        wanted = self.captions if captions is None else captions
        with self.autocast:
            return self.learner.towers(inputs.pixels[span], inputs.ids[span], captions=wanted)

    @staticmethod
    def _seed(key: tuple[int, ...], piece: int) -> None:
        """Make dropout the same when a piece is seen twice, and when a killed run comes here again."""
        torch.manual_seed(int(np.random.SeedSequence((*key, piece)).generate_state(1)[0]))
