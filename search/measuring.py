"""What an encoder nobody calibrated makes of words: measured once with phrases, kept in a file.

A bank of phrases shows where its cosines lie when nothing is meant (centre and spread, whatever its modality
gap and temperature). The same phrases beside typed nonsense show in which direction of its space texts lie
that mean something.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from encoders import Embeddings, normalize

if TYPE_CHECKING:
    from encoders import Encoder

_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LETTERS, _CONSONANTS, _VOWELS = "abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnpqrstvwz", "aeiou"
_EMPTY_WORDS = (
    "the|of the|and|or but|is it|a|it is|to be or not|which would|are was were|this that these|if so|"
    "with from by|!|?|...|!!!|#|%|--|привет|собака|пляж|مرحبا|שלום|สวัสดี|नमस्ते|Γειά σου|東京タワー"
)

# Everyday things, one of a kind, and what people write of pictures. Together they match nearly nothing.
_THINGS = (
    "dog|cat|horse|bird|fish|elephant|butterfly|spider|car|bus|train|bicycle|boat|airplane|truck|rocket|"
    "chair|table|bed|lamp|clock|mirror|window|door|bottle|cup|spoon|knife|pan|plate|book|newspaper|camera|"
    "phone|computer|keyboard|television|guitar|piano|drum|violin|ball|kite|skateboard|tent|hammer|scissors|"
    "umbrella|hat|shoe|dress|jacket|watch|ring|bread|cheese|apple|banana|pizza|cake|coffee|wine|tree|flower|"
    "mushroom|leaf|grass|mountain|river|beach|forest|desert|island|waterfall|cloud|rainbow|moon|snow|fire|"
    "church|castle|bridge|tower|street|kitchen|bathroom|office|museum|stadium|factory|farm|statue|painting|"
    "map|coin|stamp|toy|robot|baby|soldier|doctor|dancer|crowd|wedding|market|skeleton|microscope"
)
_SCENES = (
    "two people walking along the sea|a child playing with a toy on the floor|a man riding a bicycle|"
    "a woman cooking in a kitchen|an old house behind trees|a dog running through water|friends at a table|"
    "cars on a road at night|a plate with meat and vegetables|a bird on a branch|a team playing a ball game|"
    "a boat in front of an island|people waiting at a station|a cat asleep on a sofa|a street with shops|"
    "snow on a mountain under a blue sky|a singer with a microphone on a stage|flowers in a vase|"
    "a girl with a red hat looking at the camera|a horse in a field|an empty room with a window"
)
PHRASES: tuple[str, ...] = (
    *(
        ("{}", "a {}", "a photo of a {}")[number % 3].format(thing)
        for number, thing in enumerate(_THINGS.split("|"))
    ),
    *_SCENES.split("|"),
)


def nonsense(count: int, seed: int = 0) -> list[str]:
    """Return texts that nobody means anything by: runs of keys, letters, syllables, digits, marks."""
    rng = np.random.default_rng(seed)

    def word() -> str:
        kind, length = int(rng.integers(4)), int(rng.integers(3, 10))
        if kind == 0:
            return "".join(rng.choice(list(_LETTERS), length))
        if kind == 1:
            row = _KEYS[int(rng.integers(3))]
            start = int(rng.integers(len(row) - 3))
            return row[start : start + int(rng.integers(3, 6))]
        if kind == 2:
            pairs = zip(
                rng.choice(list(_CONSONANTS), length // 2 + 1), rng.choice(list(_VOWELS), 99), strict=False
            )
            return "".join(f"{first}{second}" for first, second in pairs)
        return "".join(rng.choice(list("asdfjkl;"), length))

    made = [" ".join(word() for _ in range(int(rng.integers(1, 4)))) for _ in range(count * 5 // 6)]
    signs = [list("0123456789"), list("!?.,;:#$%&()*+-/<=>@[]^_{}~")]
    while len(made) < count:
        made.append("".join(rng.choice(signs[len(made) % 2], int(rng.integers(1, 9)))))
    return [*made, *_EMPTY_WORDS.split("|")]


def discriminant(meant: Embeddings, junk: Embeddings) -> tuple[Embeddings, float, float] | None:
    """Return (direction (dim,), slope, offset): the logit that a text means something is linear along it.

    None when they cannot be told apart: fewer than nine of ten on the right side, in either half judged by
    the other.

    Args:
        meant, junk: (n, dim), (m, dim) unit L2 norm.
    Source: Fisher 1936, with a covariance shrunk as in Friedman 1989.
    """
    along, across = [], []
    for part in (0, 1):
        direction, middle = _fisher(meant[part::2], junk[part::2])
        along.append(meant[1 - part :: 2].astype(np.float64) @ direction - middle)
        across.append(junk[1 - part :: 2].astype(np.float64) @ direction - middle)
    unseen, unseen_junk = np.concatenate(along), np.concatenate(across)
    if min((unseen > 1e-9).mean(), (unseen_junk < -1e-9).mean()) < 0.9:
        return None
    direction, middle = _fisher(meant, junk)
    # Equal spreads make the logit of two normal distributions linear: distance of means over variance. Both
    # are taken from texts the direction was not made from: those it was made from lie far too neatly.
    spread = max(float(unseen.var()), float(unseen_junk.var()), 1e-9)
    slope = float(unseen.mean() - unseen_junk.mean()) / spread
    return direction.astype(np.float32), slope, -slope * middle


def measure(encoder: Encoder, folder: Path) -> tuple[Embeddings, Embeddings]:
    """Return what an encoder makes of `PHRASES` and of nonsense, (n, dim) and (m, dim); kept in the folder.

    Raises:
        EncoderError: the encoder cannot encode texts.
    """
    path = folder / f"phrases-{encoder.fingerprint[:32]}.npz"
    junk = nonsense(len(PHRASES))
    try:
        # Read whole: numpy leaves the file open when it turns out to be damaged.
        with np.load(io.BytesIO(path.read_bytes())) as archive:
            known = archive["meant"], archive["junk"]
        if known[0].shape == (len(PHRASES), encoder.dim) and known[1].shape == (len(junk), encoder.dim):
            return known
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or damaged: it is made again
    rows = _encoded(encoder, PHRASES), _encoded(encoder, junk)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".phrases-", suffix=".npz", dir=folder)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, meant=rows[0], junk=rows[1])
        os.replace(name, path)
    except OSError:
        pass  # a full or read-only disk costs a second the next time, and nothing else
    return rows


def _encoded(encoder: Encoder, texts: Sequence[str]) -> Embeddings:
    return normalize(np.asarray(encoder.encode_texts(list(texts)), np.float32))


def _fisher(meant: Embeddings, junk: Embeddings) -> tuple[np.ndarray, float]:
    first, second = meant.astype(np.float64), junk.astype(np.float64)
    covariance = (np.cov(first.T) + np.cov(second.T)) / 2
    dim = len(covariance)
    shrunk = covariance + (0.05 * np.trace(covariance) / dim + 1e-9) * np.eye(dim)
    direction = np.linalg.solve(shrunk, first.mean(0) - second.mean(0))
    direction /= max(float(np.linalg.norm(direction)), 1e-12)
    return direction, float((first.mean(0) + second.mean(0)) @ direction / 2)
