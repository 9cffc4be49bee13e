"""Short texts as questions: the mean of what an encoder makes of several phrases around the same words.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4. Which phrases pay is measured (docs/scores.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from encoders import Embeddings, normalize

if TYPE_CHECKING:
    from encoders import Encoder

_MOST_WORDS = 3
# The phrases are English: other scripts, digits and marks are asked as they stand.
_NAME = re.compile(r"[a-z]+(?:['-][a-z]+)*(?: [a-z]+(?:['-][a-z]+)*)*", re.IGNORECASE)
_LEADING = re.compile(
    r"(?:(?:an?|the) )?(?:(?:photo|picture|image|photograph) of )?(?:(?:an?|the) )?", re.IGNORECASE
)

_NO_NAME = frozenset({"", "a", "an", "the", "of"})


def bare_name(text: str) -> str | None:
    """Return the name of a thing, `dog` of `a photo of a dog`; None for a sentence and other scripts."""
    words = " ".join(text.split())
    if not _NAME.fullmatch(words):
        return None
    found = _LEADING.match(words)
    name = words[found.end() :] if found else words
    return name if name.lower() not in _NO_NAME and len(name.split()) <= _MOST_WORDS else None


def encode_prompted(encoder: Encoder, texts: Sequence[str], prompts: Sequence[str]) -> Embeddings:
    """Return (len(texts), dim) float32 of unit L2 norm: of a name the mean over prompts, else the text's own.

    All goes through the encoder in one batch.

    Args:
        prompts: with `{}` for the name; none: every text as it stands.
    """
    names = [bare_name(text) if prompts else None for text in texts]
    asked = [
        [text] if name is None else [prompt.replace("{}", name) for prompt in prompts]
        for text, name in zip(texts, names, strict=True)
    ]
    rows = np.asarray(encoder.encode_texts([one for group in asked for one in group]), np.float32)
    counts = [len(group) for group in asked]
    if len(rows) != sum(counts) or max(counts, default=1) == 1:
        return rows
    starts = np.cumsum([0, *counts[:-1]])
    means = normalize(np.add.reduceat(rows, starts, axis=0))
    # One that stands alone keeps its bits.
    alone = np.array(counts) == 1
    means[alone] = rows[starts[alone]]
    return means
