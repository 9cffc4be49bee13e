"""LoRA: low-rank changes to the weights of both towers, learned, and merged into them.

A weight W becomes W + alpha / rank * B A; only A and B learn. Source: Hu et al. 2021, arXiv:2106.09685.

The change is put on the parameter (`torch.nn.utils.parametrize`) and not around the module, because half of
what is worth changing is no module of its own: nn.MultiheadAttention keeps the projections of queries, keys
and values in one matrix and reads its output projection's weight directly, and open_clip's final projections
are bare parameters. The three projections in one matrix get a change each, as if they were apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

RANK, ALPHA = 8, 16.0


class LowRank(nn.Module):
    """Adds alpha / rank * B A to a matrix; starts by adding nothing.

    Args:
        shape: (out, in) of the matrix.
        blocks: matrices stacked in it along `out`.
    """

    def __init__(
        self, shape: Sequence[int], *, blocks: int, rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        out, width = int(shape[0]), int(shape[1])
        rank = min(rank, out // blocks, width)
        self.a = nn.Parameter(torch.empty(blocks, rank, width))
        self.b = nn.Parameter(torch.zeros(blocks, out // blocks, rank))
        bound = 1 / math.sqrt(width)
        with torch.no_grad():
            self.a.uniform_(-bound, bound, generator=generator)
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Map (out, in) to (out, in)."""
        return weight + self.scale * (self.b @ self.a).reshape(weight.shape)


@dataclass(frozen=True, slots=True)
class Target:
    """A matrix to change: a parameter of a module, and how many matrices are stacked in it."""

    module: nn.Module
    name: str
    blocks: int


def targets(tower: nn.Module) -> Iterator[Target]:
    """Yield every matrix that a vector is multiplied with: linear layers, attention, projections."""
    for module in tower.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim != 2:
                continue
            if name == "in_proj_weight":
                yield Target(module, name, 3)
            elif (
                (name == "weight" and isinstance(module, nn.Linear))
                or name in ("q_proj_weight", "k_proj_weight", "v_proj_weight")  # attention across two widths
                or name in ("proj", "text_projection")  # open_clip's way out of a tower
            ):
                yield Target(module, name, 1)


class LoRA(nn.Module):
    """The changes of some towers. Its parameters are what learns and what a checkpoint holds.

    Args:
        towers: frozen modules; a matrix in two of them is changed once.
        rank, alpha: see the module.
        seed: of what the changes start from.
    Raises:
        ValueError: there is no matrix in the towers.
    """

    def __init__(
        self, towers: Sequence[nn.Module], *, rank: int = RANK, alpha: float = ALPHA, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        found = {(id(target.module), target.name): target for tower in towers for target in targets(tower)}
        if not found:
            raise ValueError("no matrix to change in these towers")
        self._targets = list(found.values())
        changes = []
        for target in self._targets:
            weight = getattr(target.module, target.name)
            change = LowRank(
                weight.shape, blocks=target.blocks, rank=rank, alpha=alpha, generator=generator
            ).to(weight.device)
            parametrize.register_parametrization(target.module, target.name, change)
            changes.append(change)
        self.changes = nn.ModuleList(changes)

    def merge(self) -> None:
        """Write the changes into the weights; the towers are as they were before, with other numbers."""
        for target in self._targets:
            with torch.no_grad():
                changed = getattr(target.module, target.name).detach().clone()
            parametrize.remove_parametrizations(target.module, target.name, leave_parametrized=False)
            with torch.no_grad():
                getattr(target.module, target.name).copy_(changed)


def contrast(images: Tensor, texts: Tensor, right: Tensor, drawn: Tensor, scale: float) -> Tensor:
    """Return the symmetric cross-entropy of a batch, scalar: that of `linear.contrast`, for autograd.

    Args:
        images: (n, dim), any norm.
        texts: (m, dim), any norm; each distinct text once.
        right: (n, m) bool, which texts are right for which picture.
        drawn: (n,) the text drawn for each picture.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    also = right.clone()
    also[torch.arange(len(images), device=right.device), drawn] = False
    by_picture = F.cross_entropy(logits.masked_fill(also, -1e4), drawn)
    share = right.float() / right.sum(0, keepdim=True).clamp(min=1)
    by_text = -(share.T * logits.T.log_softmax(-1)).sum(-1).mean()
    return (by_picture + by_text) / 2
