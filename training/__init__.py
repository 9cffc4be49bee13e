"""Making and judging encoders, and reading the pictures and words for it.

Read in this order: errors; sets (pictures with words, in any format); judging (how good an encoder is); run
(steps and checkpoints); pretraining (a training of a person's own); finetuning (an encoder adapted to a
person's pictures); builtin (the recipe of the encoder that ships). Each has a map of its own.

Reading `training` costs nothing and needs no torch: what is asked for is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.builtin.calibrating import calibrate
    from training.builtin.recipe import train_recipe
    from training.errors import DatasetError
    from training.finetuning.adaptation import Finetuned, finetune, open_towers
    from training.finetuning.tuning import Towers
    from training.judging.evaluate import Evaluation, Measure, evaluate_dataset
    from training.judging.index_quality import evaluate_index
    from training.pretraining.architecture import require_torch
    from training.pretraining.pretrain import pretrain_model
    from training.pretraining.progress import EpochEnd, Stage, Trained
    from training.pretraining.recipes import BuiltinRecipe, OpenClipRecipe, example_recipe, load_recipe
    from training.sets.datasets import Sample, decoded, read_dataset

_HOMES = {
    "pretraining.architecture": ("require_torch",),
    "builtin.calibrating": ("calibrate",),
    "builtin.recipe": ("train_recipe",),
    "finetuning.adaptation": ("Finetuned", "finetune", "open_towers"),
    "sets.datasets": ("Sample", "decoded", "read_dataset"),
    "errors": ("DatasetError",),
    "judging.evaluate": ("Evaluation", "Measure", "evaluate_dataset"),
    "judging.index_quality": ("evaluate_index",),
    "pretraining.pretrain": ("pretrain_model",),
    "pretraining.progress": ("EpochEnd", "Stage", "Trained"),
    "pretraining.recipes": ("BuiltinRecipe", "OpenClipRecipe", "example_recipe", "load_recipe"),
    "finetuning.tuning": ("Towers",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "BuiltinRecipe",
    "DatasetError",
    "EpochEnd",
    "Evaluation",
    "Finetuned",
    "Measure",
    "OpenClipRecipe",
    "Sample",
    "Stage",
    "Towers",
    "Trained",
    "calibrate",
    "decoded",
    "evaluate_dataset",
    "evaluate_index",
    "example_recipe",
    "finetune",
    "load_recipe",
    "open_towers",
    "pretrain_model",
    "read_dataset",
    "require_torch",
    "train_recipe",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for and no more."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    return getattr(import_module(f"training.{_MODULE_OF[name]}"), name)
