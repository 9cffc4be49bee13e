"""Text to token ids without torch: open_clip's tokenizers, rebuilt on the `tokenizers` package.

A tokenizer is two things in a folder: `tokenizer.json` (the `tokenizers` file) and a description (a dict in
the folder's config.json) that says how text is cleaned before and how ids are framed after.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

TokenIds = npt.NDArray[np.int64]
"""(n, context_length) int64."""

SOT, EOT = "<start_of_text>", "<end_of_text>"
# open_clip's pattern, less the two special tokens: they are added tokens here.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

TEXT_PROBES: tuple[str, ...] = (
    "",
    " ",
    "a photo of a dog",
    "A Photo of TWO Dogs, running on the beach!!!",
    "don't we'll they've I'm it's she'd you're",
    "caf\u00e9 na\u00efve co\u00f6perate \u00c5ngstr\u00f6m \u0130stanbul stra\u00dfe",
    "cafe\u0301 nai\u0308ve",
    "\u65e5\u672c\u306e\u685c \u4e2d\u6587\u56fe\u7247\u641c\u7d22 \ud55c\uad6d\uc5b4",
    "\u0440\u044b\u0436\u0438\u0439 \u043a\u043e\u0442 \u043d\u0430 \u043a\u0440\u044b\u0448\u0435 "
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f flags \U0001f1e8\U0001f1ed",
    "Tom &amp; Jerry &lt;b&gt; &amp;amp; &eacute; &#128512;",
    "schÃ¶n mojibake â€œquotesâ€\u009d",
    "tabs\tand\nnew\r\nlines\u00a0nbsp\u3000wide",
    "1234567890 3.14 50% $100 #tag @you a_b_c x^2 {curly} [square] \\back",
    "<start_of_text> in the text <end_of_text> and after",
    "[CLS] [SEP] <s> </s> <pad> <unk>",
    "zero\u200bwidth\ufeff soft\u00adhyphen",
    "\u2460\u00bd\u00b2\u0663 \ufb01ne \uff21\uff22\uff23",
    " ".join(f"word{i}" for i in range(500)),
    "a" * 3000,
    "\U0001f431" * 200,
)
"""Texts on which a rebuilt tokenizer must give open_clip's ids before it is trusted."""


def _basic(text: str) -> str:
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_basic(text).split())


def _canonicalize(text: str) -> str:
    return " ".join(_basic(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


_CLEAN: dict[str, Callable[[str], str]] = {
    "lower": lambda text: _whitespace(text).lower(),
    "whitespace": _whitespace,
    "canonicalize": _canonicalize,
}


class Tokenizer:
    """Texts to ids.

    Args:
        fast: the `tokenizers` part.
        description: `kind` ("clip" or "hf"), `context_length`, `clean`, and for "hf" `mode` ("" or "clips"),
            `zero_id` (an id written as 0, or None) and in mode "clips" `bos`, `eos`, `pad`, `cls`.
    Source: open_clip `SimpleTokenizer` and `HFTokenizer`; Radford et al. 2021 for the vocabulary.
    """

    def __init__(self, fast: FastTokenizer, description: dict[str, Any]) -> None:
        self._fast = fast
        self.description = description
        self._clean = _CLEAN[description["clean"]]
        self._length = int(description["context_length"])

    @classmethod
    def load(cls, path: Path, description: dict[str, Any]) -> Tokenizer:
        """Return the tokenizer of a tokenizer.json file. Raises ValueError or OSError."""
        from tokenizers import Tokenizer as FastTokenizer

        text = path.read_text(encoding="utf-8")
        try:
            return cls(FastTokenizer.from_str(text), description)
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(f"not a tokenizer: {error}") from error

    def save(self, path: Path) -> None:
        """Write tokenizer.json."""
        path.write_text(self._fast.to_str(), encoding="utf-8")

    def __call__(self, texts: Sequence[str]) -> TokenIds:
        """Return (len(texts), context_length) int64; long texts are cut, CLIP's keep their end token."""
        # A lone surrogate (a file name that is not UTF-8) cannot be encoded: it becomes "?".
        cleaned = [self._clean(text.encode("utf-8", "replace").decode("utf-8")) for text in texts]
        rows = np.zeros((len(cleaned), self._length), dtype=np.int64)
        if self.description["kind"] == "clip":
            self._fill_clip(rows, cleaned)
        elif self.description.get("mode") == "clips":
            self._fill_clips(rows, cleaned)
        else:
            for row, encoding in zip(rows, self._fast.encode_batch(cleaned), strict=True):
                row[:] = encoding.ids
            zero_id = self.description.get("zero_id")
            if zero_id is not None:
                rows[rows == zero_id] = 0
        return rows

    def _fill_clip(self, rows: TokenIds, texts: list[str]) -> None:
        sot, eot = self._fast.token_to_id(SOT), self._fast.token_to_id(EOT)
        # open_clip's pattern ignores case, and so matches this one combining mark on neither side.
        texts = [text.replace("\u0345", " ") for text in texts]
        for row, encoding in zip(rows, self._fast.encode_batch(texts, add_special_tokens=False), strict=True):
            ids = [sot, *encoding.ids[: self._length - 2], eot]
            row[: len(ids)] = ids

    def _fill_clips(self, rows: TokenIds, texts: list[str]) -> None:
        bos, eos, pad, cls = (int(self.description[name]) for name in ("bos", "eos", "pad", "cls"))
        for row, encoding in zip(rows, self._fast.encode_batch(texts, add_special_tokens=False), strict=True):
            ids = [bos, *encoding.ids[: self._length - 3], eos]
            row[:] = pad
            row[: len(ids)] = ids
            row[-1] = cls


def clip_tokenizer(merges_gz: Path, *, context_length: int = 77, clean: str = "lower") -> Tokenizer:
    """Return CLIP's byte-pair tokenizer from open_clip's `bpe_simple_vocab_16e6.txt.gz`."""
    import gzip

    from tokenizers import AddedToken, Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as FastTokenizer

    with gzip.open(merges_gz, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = [(a, b) for a, b in (line.split() for line in lines[1 : 49152 - 256 - 2 + 1])]
    letters = list(_byte_letters())
    tokens = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges] + [SOT, EOT]
    vocab = {token: number for number, token in enumerate(tokens)}
    fast = FastTokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>"))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i:{_WORDS})"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (SOT, EOT)])
    return Tokenizer(fast, {"kind": "clip", "context_length": context_length, "clean": clean})


def hf_tokenizer(tokenizer_json: str, description: dict[str, Any], padding: dict[str, Any]) -> Tokenizer:
    """Return a Hugging Face fast tokenizer that cuts and pads as open_clip's HFTokenizer does.

    Args:
        tokenizer_json: the text of its tokenizer.json.
        description: as in `Tokenizer`, kind "hf".
        padding: `direction`, `pad_id`, `pad_type_id`, `pad_token`; and `truncation_side`.
    """
    from tokenizers import Tokenizer as FastTokenizer

    fast = FastTokenizer.from_str(tokenizer_json)
    length = int(description["context_length"])
    if description.get("mode") == "clips":
        fast.no_truncation()
        fast.no_padding()
    else:
        side = padding.pop("truncation_side", "right")
        fast.enable_truncation(length, direction=side)
        fast.enable_padding(length=length, **padding)
    return Tokenizer(fast, description)


def _byte_letters() -> list[str]:
    """Return the 256 letters that stand for bytes, in the order of CLIP's vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1)]
    printable += [*range(ord("\u00ae"), ord("\u00ff") + 1)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]
