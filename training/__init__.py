"""Making and judging encoders, and reading the pictures and words for it.

Read in this order. Errors: errors. A set in any format: samples (`Sample`), tars, tables, folders,
datasets (`read_dataset`). How good: metrics (retrieval, classes), bootstrap (intervals), phrasing (captions),
evaluate (a data set judged), index_quality (an index judged). A training of a person's own: recipes (what
is written by hand), architecture (open_clip's models), pack (the pictures, read once), batches, teaching
(what another encoder says), objective (losses), run (steps and checkpoints), checkpoint (whose it is), log,
progress, pretrain (the loop). An encoder adapted to a person's pictures: memory (embeddings kept), examples
(words and parts), linear, lora and tuning (learning), methods, judge (before and after), drift (everyday
questions), target (the folder), adaptation (`finetune`). The shipped encoder: builtin, a room in the room,
with its own map.

Reading `training` costs nothing and needs no torch: what is asked for is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.adaptation import Finetuned, finetune, open_towers
    from training.architecture import require_torch
    from training.builtin.recipe import train_recipe
    from training.datasets import Sample, decoded, read_dataset
    from training.errors import DatasetError
    from training.evaluate import Evaluation, Measure, evaluate_dataset
    from training.index_quality import evaluate_index
    from training.pretrain import pretrain_model
    from training.progress import EpochEnd, Stage, Trained
    from training.recipes import BuiltinRecipe, OpenClipRecipe, example_recipe, load_recipe
    from training.tuning import Towers

_HOMES = {
    "architecture": ("require_torch",),
    "builtin.recipe": ("train_recipe",),
    "adaptation": ("Finetuned", "finetune", "open_towers"),
    "datasets": ("Sample", "decoded", "read_dataset"),
    "errors": ("DatasetError",),
    "evaluate": ("Evaluation", "Measure", "evaluate_dataset"),
    "index_quality": ("evaluate_index",),
    "pretrain": ("pretrain_model",),
    "progress": ("EpochEnd", "Stage", "Trained"),
    "recipes": ("BuiltinRecipe", "OpenClipRecipe", "example_recipe", "load_recipe"),
    "tuning": ("Towers",),
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
