"""The finished encoder judged on what it never saw: the numbers of its card.

Retrieval, classification and captions are those of `training.judging`; here are the sets that must be made
first and two questions that are the built-in encoder's own: how sure it is of pictures that show nothing,
and whether it knows names that no caption taught it.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from encoders import Encoder, load_captioner, load_encoder
from training.builtin.collection import read_set
from training.builtin.drawings import plain_samples
from training.judging.evaluate import Evaluation, evaluate_dataset
from training.sets.datasets import Sample, read_tar
from training.sets.samples import in_words

log = logging.getLogger(__name__)

UNSEEN_SEED = 77
"""Of plain pictures and noise that training did not see."""
SURE = 0.5
"""Probability from which CLIP's opinion of an Unsplash photo counts as true."""


def write_tar(path: Path, samples: list[Sample]) -> Path:
    """Write samples as a WebDataset tar, whole or not at all; return its path."""
    partial = path.with_suffix(".part")
    with tarfile.open(partial, "w") as tar:
        for sample in samples:
            parts = (("webp", sample.image), ("json", json.dumps(sample.meta).encode()))
            for suffix, data in parts:
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return partial.replace(path)


def sureness(encoder: Encoder, data: Path) -> dict[str, float]:
    """Return the median best cosine to a development caption: of development photos, and of nothing.

    `auroc` is the chance that a photo's best cosine is above that of a plain picture, a gradient or noise.
    """
    photos = list(read_tar(data / "flickr8k" / "dev.tar"))
    texts = encoder.encode_texts([caption for sample in photos for caption in sample.captions])
    shown = _best(encoder, [sample.image for sample in photos], texts)
    nothing = _best(encoder, [sample.image for sample in plain_samples(seed=UNSEEN_SEED)], texts)
    auroc = float((shown[:, None] > nothing[None, :]).mean())
    return {"photos": float(np.median(shown)), "nothing": float(np.median(nothing)), "auroc": auroc}


def _best(encoder: Encoder, encoded: list[bytes], texts: np.ndarray) -> np.ndarray:
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in encoded]
    best: np.ndarray = (encoder.encode_images(images) @ texts.T).max(1)
    return best


def unseen_names(encoder: Encoder, data: Path) -> dict[str, float]:
    """Return recall of names without training pictures: "a NAME" among 541 Unsplash photos, in percent.

    A photo shows what CLIP ViT-B/32 is sure of (softmax over 1203 LVIS names, 0.5 or more).
    """
    folder = data / "unsplash"
    with np.load(folder / "clip_vit_b32_image_vectors.npz") as archive:
        names, vectors = [str(name) for name in archive["names"]], archive["vectors"].astype(np.float32)
    classes = np.load(data / "clip_text_vectors" / "lvis_v1_clip_a+cname.npy").astype(np.float32)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    words = (data / "clip_text_vectors" / "lvis_names.txt").read_text(encoding="utf-8").split("\n")
    logits = 100 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ classes.T
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    pictures = {sample.key: sample.image for sample in read_tar(folder / "photos.tar")}
    images = encoder.encode_images([Image.open(io.BytesIO(pictures[name])).convert("RGB") for name in names])
    asked = sorted({int(row.argmax()) for row in odds if row.max() >= SURE})
    texts = encoder.encode_texts([f"a {in_words(words[number])}" for number in asked])
    ranks = []
    for text, number in zip(texts, asked, strict=True):
        scores = images @ text
        right = (odds.argmax(1) == number) & (odds.max(1) >= SURE)
        ranks.append(int((scores > scores[right].max()).sum()) + 1)
    found = {f"recall@{k}": float(np.mean([rank <= k for rank in ranks]) * 100) for k in (1, 5, 10)}
    return {"names": float(len(asked)), **found}


def judge(data: Path, cache: Path, out: Path) -> dict[str, object]:
    """Return every number of the card for the encoder in `out`; they are kept in `numbers.json` too."""
    encoder = load_encoder(f"local-dir:{out}", cache_dir=cache / "exports", offline=True)
    captioner = load_captioner(f"local-dir:{out}", cache_dir=cache / "exports", offline=True)
    held = read_set(data, "caltech101/dev")
    tar = write_tar(cache / "caltech101-held-back.tar", held) if held else None
    flickr, coco = data / "flickr8k" / "dev.tar", data / "coco" / "dev.tar"
    found: dict[str, object] = {}
    evaluations: dict[str, Evaluation] = {}
    if flickr.exists():
        evaluations["flickr8k/dev"] = evaluate_dataset(flickr, encoder, captioner=captioner)
        evaluations["flickr8k/dev, Chinese"] = evaluate_dataset(flickr, encoder, field="captions_zh")
        found["sureness"] = sureness(encoder, data)
    if coco.exists():
        evaluations["coco/dev"] = evaluate_dataset(coco, encoder)
    if tar is not None:
        evaluations["caltech101, held back"] = evaluate_dataset(tar, encoder, zero_shot=True)
    if (data / "unsplash").exists():
        found["unseen names"] = unseen_names(encoder, data)
    for name, evaluation in evaluations.items():
        found[name] = [asdict(measure) for measure in evaluation.measures]
        for one in evaluation.measures:
            log.info(f"{name}: {one.task} {one.metric} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})")
    log.info("%s", {name: found[name] for name in ("sureness", "unseen names") if name in found})
    text = json.dumps(found, indent=2, ensure_ascii=False)
    (cache / "numbers.json").write_text(text + "\n", encoding="utf-8")
    return found
