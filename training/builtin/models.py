"""The two towers: a small transformer for words, a MobileNetV2 with an attention-pooled head for pictures.

Both end in the same 384-d space, that of the teacher's sentence embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.builtin.backbone import TRUNK, MobileNetV2, SameConv


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the towers; the defaults are those of the shipped encoder."""

    dim: int = 384
    vocab: int = 12_000
    context: int = 48
    width: int = 256
    layers: int = 3
    heads: int = 4
    hidden: int = 1024
    channels: int = 1280
    pool_heads: int = 8
    dropout: float = 0.1
    image_dropout: float = 0.3


class Block(nn.Module):
    """A pre-norm transformer block. Source: Xiong et al. 2020, arXiv:2002.04745."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(shape.dropout)
        for last in (self.out, self.down):  # a block starts as nearly the identity
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map (n, t, width) to the same; bias (n, 1, 1, t) is 0 for tokens and very low for padding."""
        n, t, width = x.shape
        q, k, v = (
            self.qkv(self.norm1(x)).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = (q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5 + bias
        mixed = (weights.softmax(-1) @ v).transpose(1, 2).reshape(n, t, width)
        x = x + self.dropout(self.out(mixed))
        out: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))
        return out


class TextTower(nn.Module):
    """Token ids to unit-norm embeddings: transformer, mean over tokens, one projection."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab, shape.width)
        self.positions = nn.Parameter(torch.zeros(shape.context, shape.width))
        nn.init.normal_(self.tokens.weight, std=0.05)
        nn.init.normal_(self.positions, std=0.01)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.norm = nn.LayerNorm(shape.width)
        self.project = nn.Linear(shape.width, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """Map (n, t) int64 ids, 0 is padding, to (n, dim) float32 rows of unit norm."""
        mask = (ids != 0).to(self.positions.dtype)
        x = self.dropout(self.tokens(ids) + self.positions[: ids.shape[1]])
        bias = ((1.0 - mask) * -1e4)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x).float() * mask[..., None]
        pooled = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1.0)
        return F.normalize(self.project(pooled).float(), dim=-1)


class ImageHead(nn.Module):
    """Trunk maps to unit-norm embeddings.

    Layer 51 of the backbone (tuned), mean over positions plus attention pooling (each head weighs the
    positions for its share of the channels), then two linear layers.
    """

    def __init__(self, shape: Shape, top: SameConv | None = None) -> None:
        super().__init__()
        weight = (
            top.weight.detach().clone() if top is not None else torch.randn(shape.channels, 320, 1, 1) * 0.05
        )
        bias = top.bias.detach().clone() if top is not None else torch.zeros(shape.channels)
        self.top = SameConv(weight, bias, 1, True)
        self.attend = nn.Conv2d(shape.channels, shape.pool_heads, 1)
        nn.init.zeros_(self.attend.weight)
        self.norm = nn.LayerNorm(shape.channels)
        self.hidden = nn.Linear(shape.channels, shape.hidden)
        self.project = nn.Linear(shape.hidden, shape.dim)
        self.dropout = nn.Dropout(shape.image_dropout)
        self.pool_heads = shape.pool_heads

    def pool(self, maps: Tensor) -> Tensor:
        """Map (n, 320, 7, 7) to (n, channels): mean plus attention pooling."""
        x = self.top(maps)
        n, c, h, w = x.shape
        weights = self.attend(x).flatten(2).softmax(-1) + 1.0 / (h * w)  # the mean rides along
        parts = x.reshape(n, self.pool_heads, c // self.pool_heads, h * w)
        pooled: Tensor = (parts @ weights[..., None]).reshape(n, c)
        return pooled

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, 320, 7, 7) to (n, dim) float32 rows of unit norm."""
        x = self.dropout(self.norm(self.pool(maps).float()))
        x = self.dropout(F.gelu(self.hidden(x), approximate="tanh"))
        return F.normalize(self.project(x).float(), dim=-1)


class ImageTower(nn.Module):
    """Pixels to unit-norm embeddings: what is exported."""

    def __init__(self, backbone: MobileNetV2, head: ImageHead) -> None:
        super().__init__()
        self.backbone = MobileNetV2(
            [conv for conv in list(backbone.convs)[:TRUNK] if isinstance(conv, SameConv)]
        )
        self.head = head

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, 224, 224, 3) uint8 to (n, dim) float32 rows of unit norm."""
        out: Tensor = self.head(self.backbone.trunk(pixels))
        return out
