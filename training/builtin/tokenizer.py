"""The built-in tokenizer: WordPiece, lower-cased, trained on the training sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

PAD, UNKNOWN, START = "[PAD]", "[UNK]", "[CLS]"


def train_tokenizer(texts: Sequence[str], *, vocab: int, context: int) -> Tokenizer:
    """Return a WordPiece tokenizer: [PAD] is 0, a sentence starts with [CLS], cut at `context` tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab, special_tokens=[PAD, UNKNOWN, START], show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = tokenizer.token_to_id(START)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, start)]
    )
    tokenizer.enable_truncation(context)
    tokenizer.no_padding()
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer saved at `path`."""
    return Tokenizer.from_file(str(path))


def encode_all(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> npt.NDArray[np.int16]:
    """Return (n, context) int16 ids, padded with 0 on the right."""
    ids = np.zeros((len(texts), context), dtype=np.int16)
    for start in range(0, len(texts), 10_000):
        for row, encoding in enumerate(tokenizer.encode_batch(list(texts[start : start + 10_000]))):
            ids[start + row, : len(encoding.ids)] = encoding.ids
    return ids
