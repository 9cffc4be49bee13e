"""Recall between pictures and sentences, through any encoder pixseek can load.

`python -m training.evaluate --data DIR/flickr8k/dev.tar --encoder builtin`
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.datasets import read_tar

RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Recall:
    """Percent of queries with a right answer among the first 1, 5 and 10.

    Attributes:
        text_to_image: every sentence asks for its picture.
        image_to_text: every picture asks for any of its sentences.
    """

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]

    def __str__(self) -> str:
        def line(recall: dict[int, float]) -> str:
            return "  ".join(f"R@{k} {value:5.1f}" for k, value in recall.items())

        return f"text-to-image  {line(self.text_to_image)}\nimage-to-text  {line(self.image_to_text)}"


def recall(
    images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32], owner: npt.NDArray[np.int64]
) -> Recall:
    """Return recall@1/5/10 both ways; ties count against the encoder.

    Args:
        images: (n, dim) unit norm.
        texts: (m, dim) unit norm.
        owner: (m,) which picture each sentence describes.
    """
    scores = texts @ images.T
    own = scores[np.arange(len(texts)), owner]
    text_rank = (scores >= own[:, None]).sum(1)  # the right picture itself counts: 1 is first
    best = np.full(len(images), -np.inf, dtype=np.float32)
    np.maximum.at(best, owner, own)
    foreign = scores.copy()
    foreign[np.arange(len(texts)), owner] = -np.inf
    image_rank = 1 + (foreign >= best[None, :]).sum(0)
    has_text = np.isfinite(best)
    return Recall(
        {k: float((text_rank <= k).mean() * 100) for k in RANKS},
        {k: float((image_rank[has_text] <= k).mean() * 100) for k in RANKS},
    )


def owners(captions: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    """Return (m,) int64: the picture of each sentence, sentences taken picture by picture."""
    return np.repeat(np.arange(len(captions)), [len(c) for c in captions]).astype(np.int64)


def evaluate_tar(path: Path, spec: str) -> tuple[Recall, int, int]:
    """Return (recall, pictures, sentences) of a captioned tar through the encoder named `spec`."""
    from PIL import Image

    from encoders import load_encoder

    with tempfile.TemporaryDirectory() as cache:
        encoder = load_encoder(spec, cache_dir=Path(cache), offline=True)
        samples = list(read_tar(path))
        rows = []
        for start in range(0, len(samples), 64):
            pictures = [Image.open(io.BytesIO(s.image)).convert("RGB") for s in samples[start : start + 64]]
            rows.append(encoder.encode_images(pictures))
        captions = [sample.captions for sample in samples]
        texts = [caption for group in captions for caption in group]
        embedded = [encoder.encode_texts(texts[i : i + 256]) for i in range(0, len(texts), 256)]
    result = recall(np.concatenate(rows), np.concatenate(embedded), owners(captions))
    return result, len(samples), len(texts)


def main() -> None:
    """Print recall of an encoder on a captioned tar."""
    parser = argparse.ArgumentParser(description="Recall@1/5/10 of an encoder on a captioned tar.")
    parser.add_argument("--data", type=Path, required=True, help="tar of key.webp + key.json with captions")
    parser.add_argument("--encoder", default="builtin")
    args = parser.parse_args()
    result, pictures, sentences = evaluate_tar(args.data, args.encoder)
    print(f"{args.encoder} on {args.data}: {pictures} pictures, {sentences} sentences\n{result}")


if __name__ == "__main__":
    main()
