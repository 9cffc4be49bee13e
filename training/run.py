"""A training run that survives kill -9: weights, average, optimiser and epoch in one safetensors file."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def write_safetensors(tensors: dict[str, Tensor], path: Path, meta: dict[str, str]) -> None:
    """Write a file and have it on the disk: renamed then, a power cut leaves the old file or the new one.

    Raises OSError, with no file left: the disk is full.
    """
    try:
        save_file(tensors, path, meta)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        raise OSError(errno.EIO, " ".join(str(error).split()), str(path)) from error


class DivergedError(ArithmeticError):
    """A gradient is NaN or infinite; the weights are as they were before the step."""


class Run:
    """A module under training with AdamW, a cosine schedule and an exponential moving average (EMA).

    Args:
        module: what is trained; groups names its learning rates by prefix, the rest take `rate`.
        steps: total optimiser steps: warm-up over `warmup` of them, then a cosine down to 2 %.
        decay: EMA decay per step; early steps use (1 + step) / (10 + step) where that is lower.
        warmup: steps; None is the first 4 %.
        clip_norm: largest L2 norm of the whole gradient.
    Source: Loshchilov and Hutter 2019, arXiv:1711.05101; Polyak averaging as in Tarvainen 2017.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        steps: int,
        rate: float,
        groups: dict[str, float] | None = None,
        weight_decay: float = 0.02,
        decay: float = 0.998,
        warmup: int | None = None,
        clip_norm: float = 1.0,
    ) -> None:
        self.module, self.steps, self.decay = module, steps, decay
        self.warmup = steps // 25 if warmup is None else warmup
        self.clip_norm = clip_norm
        self.step_number, self.epoch = 0, 0
        parameters: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            lr = next((r for prefix, r in (groups or {}).items() if name.startswith(prefix)), rate)
            wd = weight_decay if parameter.ndim > 1 else 0.0
            parameters.setdefault((lr, wd), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": ps, "lr": lr, "weight_decay": wd} for (lr, wd), ps in parameters.items()],
            betas=(0.9, 0.98),
            eps=1e-6,
        )
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def factor(self) -> float:
        """Return the share of the peak learning rate at the present step."""
        warm = max(1, self.warmup)
        if self.step_number < warm:
            return (self.step_number + 1) / warm
        progress = min(1.0, (self.step_number - warm) / max(1, self.steps - warm))
        return 0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2

    def step(self, loss: Tensor) -> float:
        """Take one step down `loss`; return its value. Raises DivergedError."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.apply()
        return float(loss.detach())

    def apply(self) -> None:
        """Take one step down the gradients the parameters hold. Raises DivergedError, and changes nothing."""
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        if not torch.isfinite(norm):
            raise DivergedError(f"the gradient is {float(norm)} at step {self.step_number + 1}")
        share = self.factor()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.step()
        self.step_number += 1
        decay = min(self.decay, (1 + self.step_number) / (10 + self.step_number))
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)

    def save(self, path: Path, *, meta: dict[str, str] | None = None) -> None:
        """Write everything needed to go on from here, whole or not at all; `meta` is kept beside it."""
        tensors = {f"module.{name}": value.contiguous() for name, value in self.module.state_dict().items()}
        tensors |= {f"average.{name}": value.contiguous() for name, value in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"adam.{index}.{name}"] = torch.as_tensor(value).contiguous()
        partial = path.with_suffix(".part")
        tensors = {name: value.clone() for name, value in tensors.items()}
        numbers = {"epoch": str(self.epoch), "step": str(self.step_number)}
        write_safetensors(tensors, partial, (meta or {}) | numbers)
        partial.replace(path)

    def resume(self, path: Path) -> bool:
        """Go on from `path` where it exists; return whether it did."""
        if not path.exists():
            return False
        module: dict[str, Tensor] = {}
        average: dict[str, Tensor] = {}
        state: dict[int, dict[str, Tensor]] = {}
        with safe_open(path, "pt") as archive:
            meta = archive.metadata()
            for key in archive.keys():  # noqa: SIM118 (not a dict)
                kind, _, name = key.partition(".")
                value = archive.get_tensor(key)
                if kind == "module":
                    module[name] = value
                elif kind == "average":
                    average[name] = value
                else:
                    index, _, name = name.partition(".")
                    state.setdefault(int(index), {})[name] = value
        self.module.load_state_dict(module)
        self.average = {name: value.to(self.average[name].device) for name, value in average.items()}
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
        self.epoch, self.step_number = int(meta["epoch"]), int(meta["step"])
        return True
