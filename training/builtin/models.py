"""The two towers, a small transformer for words and a MobileNetV2 for pictures, and the caption decoder.

Both towers end in the same 384-d space, that of the teacher's sentence embeddings; the decoder reads the
picture tower's positions. Source of the arrangement: CoCa, Yu et al. 2022, arXiv:2205.01917.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.builtin.backbone import MobileNetV2, SameConv, Trunk, run_blocks


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the towers and the decoder; the defaults are those of the shipped encoder.

    Attributes:
        dim: of the shared space.
        vocab, context: tokens of the text tower.
        width, layers, heads: of the text tower.
        hidden: of the picture head.
        pool_heads: of the attention pooling.
        seen: width of the positions that the decoder reads, and of the decoder.
        decoder_layers, decoder_heads: of the decoder.
        length: tokens of a caption, start and end included.
        dropout, image_dropout: of the transformers and of the picture head.
    """

    dim: int = 384
    vocab: int = 14_000
    context: int = 48
    width: int = 256
    layers: int = 3
    heads: int = 4
    hidden: int = 1024
    pool_heads: int = 8
    seen: int = 256
    decoder_layers: int = 2
    decoder_heads: int = 4
    length: int = 24
    dropout: float = 0.1
    image_dropout: float = 0.3


class Attention(nn.Module):
    """Multi-head attention of x over a memory (itself, where none is given)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.out.weight, std=0.02)  # a block starts as nearly the identity
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map x (n, t, width) and memory (n, s, width) to (n, t, width); bias is added to the logits."""
        n, t, width = x.shape
        each = width // self.heads
        q = self.query(x).view(n, t, self.heads, each).transpose(1, 2)
        k, v = self.key_value(memory).view(n, -1, 2, self.heads, each).permute(2, 0, 3, 1, 4)
        logits = (q @ k.transpose(-2, -1)) * each**-0.5
        if bias is not None:
            logits = logits + bias
        out: Tensor = self.out((logits.softmax(-1) @ v).transpose(1, 2).reshape(n, t, width))
        return out


class Feed(nn.Module):
    """The two linear layers of a transformer block, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, t, width) to the same."""
        out: Tensor = self.down(F.gelu(self.up(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """A pre-norm transformer block. Source: Xiong et al. 2020, arXiv:2002.04745."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.feed = Attention(width, shape.heads), Feed(width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map (n, t, width) to the same; bias (n, 1, 1, t) is 0 for tokens and very low for padding."""
        y = self.norm1(x)
        x = x + self.dropout(self.attend(y, y, bias))
        out: Tensor = x + self.dropout(self.feed(self.norm2(x)))
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
    """Trunk maps to unit-norm embeddings, and to the positions that the decoder reads.

    The backbone's upper layers (tuned), mean over positions plus attention pooling (each head weighs the
    positions for its share of the channels), then two linear layers.

    Args:
        shape: sizes.
        upper: convolutions above the trunk, three a block, then the widening one.
    """

    def __init__(self, shape: Shape, upper: Sequence[SameConv]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(deepcopy(conv).requires_grad_(True) for conv in upper[:-1])
        self.top = deepcopy(upper[-1]).requires_grad_(True)
        channels, narrow = self.top.weight.shape[:2]
        self.attend = nn.Conv2d(channels, shape.pool_heads, 1)
        nn.init.zeros_(self.attend.weight)
        self.norm = nn.LayerNorm(channels)
        self.hidden = nn.Linear(channels, shape.hidden)
        self.project = nn.Linear(shape.hidden, shape.dim)
        self.dropout = nn.Dropout(shape.image_dropout)
        self.look, self.gist = nn.Linear(narrow, shape.seen), nn.Linear(shape.hidden, shape.seen)
        self.pool_heads = shape.pool_heads

    def pool(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, channels): mean plus attention pooling."""
        n, c, h, w = x.shape
        weights = self.attend(x).flatten(2).softmax(-1) + 1.0 / (h * w)  # the mean rides along
        parts = x.reshape(n, self.pool_heads, c // self.pool_heads, h * w)
        pooled: Tensor = (parts @ weights[..., None]).reshape(n, c)
        return pooled

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, *MAPS) to ((n, dim) float32 rows of unit norm, (n, 50, seen) positions).

        The first 49 positions are the picture's squares in reading order, the last is the whole.
        """
        narrow = run_blocks(self.blocks, maps)
        x = self.dropout(self.norm(self.pool(self.top(narrow)).float()))
        x = self.dropout(F.gelu(self.hidden(x), approximate="tanh"))
        squares = self.look(narrow.flatten(2).transpose(1, 2))
        positions = torch.cat([squares, self.gist(x)[:, None].to(squares.dtype)], 1)
        return F.normalize(self.project(x).float(), dim=-1), positions


class ImageTower(nn.Module):
    """Pixels to unit-norm embeddings and positions: what is exported."""

    def __init__(self, backbone: MobileNetV2, head: ImageHead) -> None:
        super().__init__()
        self.trunk, self.head = Trunk(backbone), head

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, 224, 224, 3) uint8 to (n, dim) float32 rows of unit norm and (n, 50, seen) float32."""
        embeddings, positions = self.head(self.trunk(pixels))
        return embeddings, positions.float()


class DecoderBlock(nn.Module):
    """Causal self-attention, attention over the picture's positions, feed-forward; all pre-norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.seen
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = Attention(width, shape.decoder_heads)
        self.look = Attention(width, shape.decoder_heads)
        self.feed = Feed(width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, positions: Tensor, causal: Tensor) -> Tensor:
        """Map x (n, t, seen) to the same; causal (t, t) is 0 for the past and very low for the future."""
        y = self.norm1(x)
        x = x + self.dropout(self.attend(y, y, causal))
        x = x + self.dropout(self.look(self.norm2(x), positions))
        out: Tensor = x + self.dropout(self.feed(self.norm3(x)))
        return out


class Decoder(nn.Module):
    """Positions and the tokens so far to logits of the next token; input and output embeddings are one."""

    def __init__(self, shape: Shape, vocab: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, shape.seen)
        self.places = nn.Parameter(torch.zeros(shape.length, shape.seen))
        nn.init.normal_(self.tokens.weight, std=0.05)
        nn.init.normal_(self.places, std=0.01)
        self.entry = nn.LayerNorm(shape.seen)
        self.blocks = nn.ModuleList([DecoderBlock(shape) for _ in range(shape.decoder_layers)])
        self.norm = nn.LayerNorm(shape.seen)
        self.bias = nn.Parameter(torch.zeros(vocab))
        self.dropout = nn.Dropout(2 * shape.dropout)

    def forward(self, positions: Tensor, ids: Tensor) -> Tensor:
        """Map (n, 50, seen) and (n, t) int64 to (n, t, vocab) logits: of what follows each token."""
        t = ids.shape[1]
        memory = self.entry(positions)
        x = self.dropout(self.tokens(ids) + self.places[:t])
        causal = torch.full((t, t), -1e4, dtype=x.dtype, device=x.device).triu(1)
        for block in self.blocks:
            x = block(x, memory, causal)
        out: Tensor = F.linear(self.norm(x), self.tokens.weight, self.bias)
        return out


class NextToken(nn.Module):
    """The decoder as it is exported: logits of the token after the last one."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, positions: Tensor, ids: Tensor) -> Tensor:
        """Map (n, 50, seen) float32 and (n, t) int64 to (n, vocab) float32 logits."""
        out: Tensor = self.decoder(positions, ids)[:, -1]
        return out
