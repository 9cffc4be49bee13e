"""Losses of the two stages."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of 1 - cosine, scalar; both (n, dim) of unit norm."""
    return 1.0 - (student * teacher).sum(-1).mean()


def structure_loss(student: Tensor, teacher: Tensor, scale: float = 20.0) -> Tensor:
    """Return the cross-entropy between the two similarity distributions of a batch, scalar.

    What is like what matters more than where it lies. Source: relational distillation, Park et al. 2019,
    arXiv:1904.05068; here with a softmax at temperature 1 / scale, the diagonal left out.
    """
    diagonal = torch.eye(len(student), dtype=torch.bool, device=student.device)
    ours = (student @ teacher.T * scale).masked_fill(diagonal, -1e4)
    theirs = (teacher @ teacher.T * scale).masked_fill(diagonal, -1e4)
    return (
        -(theirs.softmax(-1) * ours.log_softmax(-1)).sum(-1).mean()
        + (theirs.softmax(-1) * theirs.log_softmax(-1)).sum(-1).mean()
    )


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted symmetric cross-entropy of matching pictures and sentences, scalar.

    Args:
        images: (n, dim) unit norm; row i belongs to texts row i.
        texts: (n, dim) unit norm.
        scale: scalar, inverse temperature.
        same: (n, n) bool, True where sentence j would also be right for picture i (not a negative);
            the diagonal is ignored.
        weights: (n,) weight of each pair.
    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; the mask removes false negatives.
    """
    diagonal = torch.eye(len(images), dtype=torch.bool, device=images.device)
    logits = (images @ texts.T * scale).masked_fill(same & ~diagonal, -1e4)
    target = torch.arange(len(images), device=images.device)
    rows = F.cross_entropy(logits, target, reduction="none")
    columns = F.cross_entropy(logits.T, target, reduction="none")
    loss = (rows + columns) / 2
    return (loss * weights).sum() / weights.sum()


def class_loss(images: Tensor, classes: Tensor, scale: Tensor, soft: Tensor) -> Tensor:
    """Return the cross-entropy between what the ImageNet classifier sees and what the names say, scalar.

    Args:
        images: (n, dim) unit norm.
        classes: (1000, dim) unit norm, the teacher's embeddings of the class names.
        scale: scalar, inverse temperature.
        soft: (n, 1000) probabilities of the pretrained classifier. A picture of which it is unsure weighs
            less: the weight is its highest probability.
    Names that no caption has keep their pictures. Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    weights = soft.max(-1).values
    losses = -(soft * (images @ classes.T * scale).log_softmax(-1)).sum(-1)
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def caption_loss(logits: Tensor, ids: Tensor, smoothing: float = 0.1) -> Tensor:
    """Return the mean cross-entropy of each token given those before it, scalar.

    Args:
        logits: (n, t, vocab), of what follows each of the first t tokens.
        ids: (n, t + 1) int64: start, the caption, end; 0 is padding and counts for nothing.
    """
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return F.cross_entropy(flat, ids[:, 1:].reshape(-1), ignore_index=0, label_smoothing=smoothing)
