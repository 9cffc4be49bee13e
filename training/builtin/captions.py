"""Captions as the decoder reads and writes them: frequent WordPieces of the text tower, renumbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.builtin.tokenizer import UNKNOWN

PAD, START, END = 0, 1, 2
MARKS = ("[PAD]", "[START]", "[END]")
OFTEN = 2
"""A piece that fewer captions hold is not written; captions that hold such a piece are not learned from."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The decoder's pieces.

    Attributes:
        tokens: by decoder id; 0 is padding, 1 starts and 2 ends a caption.
    """

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, captions: Sequence[str], tokenizer: Tokenizer) -> Vocabulary:
        """Return the pieces that at least `OFTEN` captions hold."""
        counts = Counter(piece for caption in captions for piece in set(pieces(caption, tokenizer)))
        kept = sorted(piece for piece, count in counts.items() if count >= OFTEN and piece != UNKNOWN)
        return cls((*MARKS, *kept))

    def ids(self, captions: Sequence[str], tokenizer: Tokenizer, length: int) -> npt.NDArray[np.int16]:
        """Return (n, length) int16: start, pieces, end, padding; all 0 for what cannot be written."""
        numbers = {piece: number for number, piece in enumerate(self.tokens)}
        out = np.zeros((len(captions), length), dtype=np.int16)
        for row, caption in enumerate(captions):
            found = [numbers.get(piece, PAD) for piece in pieces(caption, tokenizer)]
            if found and PAD not in found and len(found) + 2 <= length:
                out[row, : len(found) + 2] = [START, *found, END]
        return out


def pieces(caption: str, tokenizer: Tokenizer) -> list[str]:
    """Return the WordPieces of a caption, the full stop and other marks left out."""
    written = [str(piece) for piece in tokenizer.encode(caption, add_special_tokens=False).tokens]
    return [piece for piece in written if piece[-1].isalnum() or piece in ("-", "'", "&", UNKNOWN)]
