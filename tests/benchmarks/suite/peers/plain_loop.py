"""The loop a person would write: PIL, open_clip's preprocessing, a DataLoader with two workers, float32.

`python plain_loop.py MODEL WEIGHTS FOLDER OUT.npz`: writes `paths` and `vectors` (n, dim) float32, unit L2
norm. It is what the others' embeddings are compared with, too: pictures decoded in full, nothing rounded.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from pillow_heif import register_heif_opener
from safetensors.torch import load_file

WORKERS, BATCH = 2, 32


class Pictures(torch.utils.data.Dataset):
    def __init__(self, paths, preprocess):
        self.paths, self.preprocess = paths, preprocess

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        register_heif_opener()
        return self.preprocess(Image.open(self.paths[number]))


def main():
    warnings.simplefilter("ignore")
    name, weights, folder, out = sys.argv[1:]
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.load_state_dict(load_file(weights))
    model.eval()
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file() and path.name[0] != ".")
    loader = torch.utils.data.DataLoader(Pictures(paths, preprocess), BATCH, num_workers=WORKERS)
    rows = []
    with torch.inference_mode():
        for pictures in loader:
            rows.append(model.encode_image(pictures, normalize=True).numpy())
    np.savez(out, paths=np.array(paths), vectors=np.concatenate(rows))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
