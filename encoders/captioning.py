"""Pictures to sentences: what a captioner is, which encoders are one, and the built-in one.

A sentence is one line in lower case without a final full stop, as people type.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from encoders.base import Preprocess
from encoders.builtin import IMAGE_BATCH, Weights, is_builtin_folder
from encoders.decoding import Rules, beam_search, join_pieces
from encoders.errors import EncoderDamagedError, EncoderError, UsageError
from encoders.specs import Spec, parse_spec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from PIL import Image
    from tokenizers import Tokenizer

DECODER = "decoder.onnx"
PUBLISHED = (
    "coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k",
    "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
)
"""Specs of open_clip's captioners, to be named in messages; their other tags write web captions."""


class Captioner(Protocol):
    """Pictures to sentences, the same ones every time."""

    @property
    def spec(self) -> str:
        """What `load_captioner` takes to get this captioner again."""

    @property
    def image_size(self) -> int:
        """Side of the square the picture tower reads, pixels: a larger picture may be decoded smaller."""

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Return one sentence per image, in the order given; images are RGB, upright, any size."""

    def complete(self, image: Image.Image, prompt: str) -> str:
        """Return a sentence about the image that starts with the prompt, as the decoder spells it.

        Raises:
            UsageError: the prompt leaves no room, or the decoder knows none of its words.
        """


def load_captioner(
    spec: str,
    *,
    cache_dir: Path,
    allow_pickle: bool = False,
    offline: bool = False,
    threads: int | None = None,
) -> Captioner:
    """Return the captioner of the encoder that `spec` names; `auto` is the built-in one.

    Args: see `load_encoder`.
    Raises:
        EncoderError: the encoder has no caption decoder; the message names ones that do.
        UsageError, EncoderUnavailableError, EncoderDamagedError: as `load_encoder` does.
    """
    parsed = parse_spec("builtin" if spec.strip() == "auto" else spec)
    if parsed.kind == "builtin":
        return BuiltinCaptioner(threads=threads)
    if parsed.kind == "dir" and is_builtin_folder(Path(parsed.model)):
        return BuiltinCaptioner(Path(parsed.model), threads, spec=parsed.text)
    from encoders.coca import load_coca

    return load_coca(parsed, cache_dir=cache_dir, allow_pickle=allow_pickle, offline=offline, threads=threads)


def without_decoder(spec: Spec | str) -> EncoderError:
    """Return the error for an encoder that cannot caption."""
    name = spec if isinstance(spec, str) else spec.text
    others = PUBLISHED if name == "builtin" or not builtin_captions() else ("builtin", *PUBLISHED)
    return EncoderError(
        f"encoder {name!r} has no caption decoder; use one that has: --encoder {' or '.join(others)}"
    )


def builtin_captions() -> bool:
    """Return whether the weights in the package have a caption decoder."""
    try:
        return "caption" in Weights().config
    except EncoderError:
        return False


class BuiltinCaptioner:
    """The decoder beside the built-in encoder's weights: onnxruntime and numpy, no download.

    config.json has `caption`: `tokens` (WordPieces by decoder id, 0 is padding), `start` and `end` (ids that
    begin and end every sequence) and `length` (most ids of a sequence, those two included). decoder.onnx maps
    `positions` (n, p, c) float32, the second output of image.onnx, and `ids` (n, t) int64 to `logits`
    (n, vocab) float32 of the token after the last.

    Args:
        weights_dir: another folder with config.json, image.onnx, decoder.onnx and tokenizer.json.
        threads: of both graphs; None lets onnxruntime take one per core.
        spec: what `load_captioner` takes to get this captioner again.
        width, length_penalty: of the beam search; see `decoding.Rules`.
    Raises:
        EncoderError: these weights have no decoder.
        EncoderUnavailableError, EncoderDamagedError: as `BuiltinEncoder`.
    """

    def __init__(
        self,
        weights_dir: Path | None = None,
        threads: int | None = None,
        *,
        spec: str = "builtin",
        width: int = 4,
        length_penalty: float = 0.7,
    ) -> None:
        self._weights, self._threads, self._spec = Weights(weights_dir), threads, spec
        config = self._weights.config
        if "caption" not in config:
            raise without_decoder(spec)
        try:
            self._preprocess = Preprocess(**config["preprocess"])
            written = config["caption"]
            self._tokens = tuple(str(token) for token in written["tokens"])
            self._start, end, length = (int(written[name]) for name in ("start", "end", "length"))
            if not (0 < self._start < len(self._tokens) and 0 < end < len(self._tokens) and length > 2):
                raise ValueError("start, end or length of the captions is out of range")
        except (ValueError, KeyError, TypeError) as error:
            raise self._weights.not_a_config(error) from error
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        banned = {0, self._start} | {self._ids[token] for token in ("[UNK]",) if token in self._ids}
        self._rules = Rules(end, length, frozenset(banned), width=width, length_penalty=length_penalty)

    @property
    def spec(self) -> str:
        """`builtin`, or the folder's spec."""
        return self._spec

    @property
    def image_size(self) -> int:
        """Side of the square the picture tower reads, pixels."""
        return self._preprocess.size

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Return one sentence per image, in the order given; memory does not grow with their number.

        Raises:
            EncoderDamagedError: a file does not match its sha256 or cannot be read, or the decoder gives NaN.
        """
        sentences: list[str] = []
        for start in range(0, len(images), IMAGE_BATCH):
            sentences += self._write(images[start : start + IMAGE_BATCH], (), least=1)
        return sentences

    def complete(self, image: Image.Image, prompt: str) -> str:
        """Return a sentence that starts with the prompt; a word the decoder does not know is left out of it.

        An empty prompt is no prompt.

        Raises:
            UsageError: the prompt is longer than a sentence of this decoder, or it knows none of its words.
            EncoderDamagedError: as `caption`.
        """
        words = self._prompt_ids(prompt)
        return self._write([image], words, least=0 if words else 1)[0]

    def _write(self, images: Sequence[Image.Image], words: tuple[int, ...], *, least: int) -> list[str]:
        pixels = np.stack([self._preprocess(image) for image in images])
        positions = self._run("image.onnx", self._image, "positions", {"pixels": pixels})

        def next_logits(
            pictures: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]
        ) -> npt.NDArray[np.float32]:
            inputs: dict[str, npt.NDArray[Any]] = {"positions": positions[pictures], "ids": ids}
            logits = self._run(DECODER, self._decoder, "logits", inputs)
            if logits.shape != (len(ids), len(self._tokens)):
                raise self._damaged(DECODER, f"logits {logits.shape} for {len(self._tokens)} tokens")
            return logits

        prefix = (self._start, *words)
        try:
            written = beam_search(next_logits, len(images), prefix, replace(self._rules, least=least))
        except FloatingPointError as error:
            raise self._damaged(DECODER, str(error)) from error
        return [join_pieces([self._tokens[number] for number in (*words, *ids)]) for ids in written]

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Return decoder ids of the prompt's words; a word with an unknown piece is left out whole."""
        clean = prompt[:10_000].encode("utf-8", "replace").decode("utf-8")
        if not clean.strip():
            return ()
        words: list[list[str]] = []
        for piece in self._tokenizer.encode(clean, add_special_tokens=False).tokens:
            if piece.startswith("##") and words:
                words[-1].append(piece)
            else:
                words.append([piece])
        special = self._rules.banned | {self._rules.end}
        known = [
            [self._ids[piece] for piece in word]
            for word in words
            if all(piece in self._ids and self._ids[piece] not in special for piece in word)
        ]
        ids = tuple(number for word in known for number in word)
        if not ids:
            raise UsageError(f"the captioner knows no word of the prompt {prompt[:60]!r}; use plain English")
        room = self._rules.length - 3  # start, one new token, end
        if len(ids) > room:
            raise UsageError(
                f"the prompt is too long: {len(ids)} word pieces, this captioner takes {room}; shorten it"
            )
        return ids

    def _run(
        self, name: str, session: InferenceSession, output: str, inputs: dict[str, npt.NDArray[Any]]
    ) -> npt.NDArray[np.float32]:
        try:
            return np.asarray(session.run([output], inputs)[0], dtype=np.float32)
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise self._damaged(name, " ".join(str(error).split())[:160]) from error

    def _damaged(self, name: str, why: str) -> EncoderDamagedError:
        return EncoderDamagedError(str(self._weights.folder / name), why)

    @functools.cached_property
    def _image(self) -> InferenceSession:
        return self._weights.session("image.onnx", self._threads)

    @functools.cached_property
    def _decoder(self) -> InferenceSession:
        return self._weights.session(DECODER, self._threads)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self._weights.tokenizer()
        tokenizer.no_truncation()  # a prompt that is too long is refused, not cut
        return tokenizer
