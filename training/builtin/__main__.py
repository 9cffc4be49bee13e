"""`python -m training.builtin`: make the built-in encoder."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import torch

from training.builtin.models import Shape
from training.builtin.recipe import Recipe, train

parser = argparse.ArgumentParser(description="Train the built-in encoder; resumes from its cache folder.")
parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
parser.add_argument("--out", type=Path, required=True, help="folder for image.onnx, text.onnx, ...")
parser.add_argument("--cache", type=Path, default=Path("work", "builtin"), help="views, teacher, checkpoints")
parser.add_argument("--epochs", type=int, default=Recipe().contrast.epochs, help="of the contrast stage")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
logging.getLogger("training").setLevel(logging.INFO)
torch.set_num_threads(options.threads)
recipe = Recipe(seed=options.seed)
recipe = replace(recipe, contrast=replace(recipe.contrast, epochs=options.epochs))
train(options.data, options.cache, options.out, recipe, Shape())
