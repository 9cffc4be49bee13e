"""open_clip's CoCa models as captioners, in torch.

open_clip's own `generate` needs classes that transformers 5 no longer has, so the sentences are searched for
by `decoding`, and transformers is not needed. Source: Yu et al. 2022, arXiv:2205.01917.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoders import sources
from encoders.captioning import Captioner, without_decoder
from encoders.decoding import Rules, beam_search, tidy
from encoders.errors import EncoderDamagedError, EncoderError, EncoderUnavailableError, UsageError
from encoders.openclip import TorchModel
from encoders.specs import Spec
from encoders.store import Store
from encoders.tokens import EOT, SOT

if TYPE_CHECKING:
    from PIL import Image

PICTURES = 4
"""Pictures searched at once: a step's logits are (pictures * beams, tokens, 49408) float32."""
WRITTEN = 30
"""Most tokens after the prompt, as open_clip's `generate`."""
LEAST = 4
"""Tokens before a caption may end, as open_clip's `generate`."""


def load_coca(
    spec: Spec, *, cache_dir: Path, allow_pickle: bool, offline: bool, threads: int | None
) -> Captioner:
    """Return the captioner of a CoCa model; another fetches no weights. Raises as `load_captioner`."""
    config, *_ = sources.describe(spec, offline=offline)
    if "multimodal_cfg" not in config:
        raise without_decoder(spec)
    text_cfg = config["text_cfg"]
    if text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name"):
        raise EncoderError(
            f"encoder {spec.text!r}: pixseek reads captions in CLIP's tokens only, and it has others; use "
            "--encoder coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k"
        )
    source = sources.resolve(spec, allow_pickle=allow_pickle, offline=offline)
    try:
        built = TorchModel(source, Store(cache_dir))
    except FileNotFoundError as error:
        raise EncoderUnavailableError(
            spec.text, f"no such file: {error.filename}", "check the path"
        ) from error
    except OSError as error:
        raise EncoderDamagedError(str(source.weights), error.strerror or str(error)) from error
    return CocaCaptioner(built, threads=threads)


class CocaCaptioner:
    """A CoCa model run by torch. Satisfies `captioning.Captioner`.

    Args:
        built: the model; its tokenizer is CLIP's.
        threads: torch's threads, for the whole process; None leaves them.
    Raises:
        EncoderError: its vocabulary is not CLIP's.
    """

    def __init__(self, built: TorchModel, *, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._built = built
        tokenizer = built.open_clip_tokenizer
        self._start, self._end = (int(tokenizer.encoder[token]) for token in (SOT, EOT))
        vocab = int(built.model.text.vocab_size)
        if vocab <= self._end:
            raise EncoderError(
                f"encoder {self.spec!r} has {vocab} tokens; CLIP's tokenizer has {self._end + 1}"
            )
        # open_clip pads with 0, and masks it wherever it stands.
        banned = frozenset({0, self._start, *range(self._end + 1, vocab)})
        self._context = int(built.model.context_length)
        self._rules = Rules(self._end, self._context, banned, LEAST)

    @property
    def spec(self) -> str:
        """What `load_captioner` takes to get this captioner again."""
        return self._built.source.spec.text

    @property
    def image_size(self) -> int:
        """Side of the square the picture tower reads, pixels."""
        return self._built.preprocess.size

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Return one sentence per image, in the order given. Raises EncoderDamagedError on NaN."""
        sentences: list[str] = []
        for start in range(0, len(images), PICTURES):
            sentences += self._write(images[start : start + PICTURES], ())
        return sentences

    def complete(self, image: Image.Image, prompt: str) -> str:
        """Return a sentence that starts with the prompt in CLIP's spelling; an empty one is no prompt.

        Raises:
            UsageError: the prompt is longer than the decoder's context.
            EncoderDamagedError: as `caption`.
        """
        return self._write([image], self._prompt_ids(prompt))[0]

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        clean = prompt[:10_000].encode("utf-8", "replace").decode("utf-8")
        tokenizer = self._built.open_clip_tokenizer
        # Not through its call, which cuts; special tokens that a person typed would end the prompt.
        ids = tuple(
            int(number)
            for number in tokenizer.encode(tokenizer.clean_fn(clean))
            if number not in self._rules.banned and number != self._end
        )
        room = self._context - 3  # start, one new token, end
        if len(ids) > room:
            raise UsageError(
                f"the prompt is too long: {len(ids)} tokens, this captioner takes {room}; shorten it"
            )
        return ids

    def _write(self, images: Sequence[Image.Image], words: tuple[int, ...]) -> list[str]:
        import torch

        model = self._built.model
        pixels = np.stack([self._built.preprocess(image) for image in images])
        with torch.inference_mode():
            scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255.0)
            mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (self._built.mean, self._built.std))
            seen = model((scaled - mean) / std)
            latent, positions = seen["image_features"], seen["image_embs"]

            def next_logits(
                pictures: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]
            ) -> npt.NDArray[np.float32]:
                rows = torch.from_numpy(pictures)
                out: Any = model(
                    None,
                    torch.from_numpy(ids),
                    image_latent=latent[rows],
                    image_embs=positions[rows],
                    output_labels=False,
                )
                return np.asarray(out["logits"][:, -1].numpy())

            prefix = (self._start, *words)
            rules = replace(
                self._rules,
                length=min(self._context, len(prefix) + WRITTEN + 1),
                least=max(0, LEAST - len(words)),
            )
            try:
                written = beam_search(next_logits, len(images), prefix, rules)
            except FloatingPointError as error:
                raise EncoderDamagedError(str(self._built.source.weights), str(error)) from error
        return [self._sentence((*words, *ids)) for ids in written]

    def _sentence(self, ids: Sequence[int]) -> str:
        # CLIP's tokenizer gives every digit as a word.
        return re.sub(r"(?<=\d) (?=\d)", "", tidy(self._built.open_clip_tokenizer.decode(ids)))
