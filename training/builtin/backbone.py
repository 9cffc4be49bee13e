"""MobileNetV2 1.0 with batch norm folded in, loaded from the ImageNet weights.

Source: Sandler et al. 2018, arXiv:1801.04381. Weights: TensorFlow slim, Apache-2.0.
Torch is imported here at the top: only training and export read this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS = 52
"""Convolutions up to the 1280-channel one; layer 52, the ImageNet classifier, is left out."""
TRUNK = 42
"""Layers of the frozen trunk, whose `MAPS` are cached; the three blocks above it and layer 51 are tuned."""
MAPS = (160, 7, 7)
SCALE = 127.5


class SameConv(nn.Module):
    """A convolution with TensorFlow SAME padding, and ReLU6 unless it is a linear projection."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, activate: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride, self.activate = stride, activate
        self.groups = weight.shape[0] if weight.shape[1] == 1 and weight.shape[2] == 3 else 1
        self.kernel = int(weight.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, ceil(h / stride), ceil(w / stride))."""
        padding = 0
        if self.kernel == 3 and self.stride == 2:
            x = F.pad(x, (0, 1, 0, 1))  # even sizes: SAME pads right and bottom only
        elif self.kernel == 3:
            padding = 1
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return F.relu6(x) if self.activate else x


def run_blocks(convs: Sequence[nn.Module] | nn.ModuleList, x: Tensor) -> Tensor:
    """Return x after inverted residual blocks, three convolutions each; equal shapes are added."""
    for layer in range(0, len(convs), 3):
        y = convs[layer + 2](convs[layer + 1](convs[layer](x)))
        x = x + y if y.shape == x.shape else y
    return x


class MobileNetV2(nn.Module):
    """The convolutions in execution order: a trunk up to layer `TRUNK`, and what is tuned above it."""

    def __init__(self, convs: list[SameConv]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)

    def trunk(self, pixels: Tensor) -> Tensor:
        """Map (n, 224, 224, 3) pixels 0..255, any dtype, to (n, *MAPS)."""
        x = pixels.permute(0, 3, 1, 2).to(next(self.parameters()).dtype) / SCALE - 1.0
        for conv in self.convs[:3]:
            x = conv(x)
        return run_blocks(self.convs[3:TRUNK], x)

    def upper(self) -> list[SameConv]:
        """Return the layers above the trunk: three blocks, then layer 51 (320 to 1280)."""
        return [conv for conv in self.convs[TRUNK:] if isinstance(conv, SameConv)]


class Trunk(nn.Module):
    """The frozen part alone: what is exported to fill the cache."""

    def __init__(self, backbone: MobileNetV2) -> None:
        super().__init__()
        self.backbone = MobileNetV2([c for c in backbone.convs[:TRUNK] if isinstance(c, SameConv)])

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, 224, 224, 3) uint8 to (n, *MAPS)."""
        return self.backbone.trunk(pixels)


def load_backbone(path: Path) -> MobileNetV2:
    """Return the backbone in evaluation mode, float32, frozen."""
    convs = []
    with np.load(path) as archive:
        for layer in range(LAYERS):
            weight = torch.from_numpy(archive[f"{layer:02d}.weight"].astype(np.float32))
            bias = torch.from_numpy(archive[f"{layer:02d}.bias"].astype(np.float32))
            linear = layer == 2 or (2 < layer < LAYERS - 1 and (layer - 3) % 3 == 2)
            convs.append(SameConv(weight, bias, int(archive[f"{layer:02d}.stride"]), not linear))
    model = MobileNetV2(convs).eval()
    return model.requires_grad_(False)


def load_classifier(path: Path) -> tuple[Tensor, Tensor]:
    """Return the ImageNet classifier (1001, 1280) and its bias (1001,); class 0 is background."""
    with np.load(path) as archive:
        weight, bias = archive["52.weight"].astype(np.float32), archive["52.bias"].astype(np.float32)
    return torch.from_numpy(weight[:, :, 0, 0]), torch.from_numpy(bias)
