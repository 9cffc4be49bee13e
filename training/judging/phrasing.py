"""How good written captions are: BLEU-4 and CIDEr-D against what people wrote.

BLEU-4 is computed by sacrebleu (Apache-2.0), CIDEr-D by pycocoevalcap, the evaluation code of COCO itself.
Both get words split here, because COCO's tokenizer needs Java: lower case; contractions split as the Penn
Treebank does (`man's` is `man 's`, `don't` is `do n't`); hyphens kept inside words; all other punctuation
dropped, as COCO drops it; each Chinese character a word. On plain captions this gives COCO's tokens.

Sources: Papineni et al. 2002; Vedantam et al. 2015, arXiv:1411.5726; Chen et al. 2015, arXiv:1504.00325.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from encoders import EncoderError
from training.errors import DatasetError
from training.judging.bootstrap import DRAWS, Estimate, means, statistic
from training.judging.metrics import Floats

INSTALL = "pip install 'pixseek[train]'"
_CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b")
_WORD = re.compile(
    r"n't|'(?:s|re|ve|ll|d|m)\b|[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+(?:-\w+)*"
)


def words(caption: str) -> str:
    """Return a caption as its tokens, one space between them."""
    text = unicodedata.normalize("NFKC", caption).lower().replace("\u2019", "'")
    return " ".join(_WORD.findall(_CONTRACTION.sub(r" \1", text)))


def caption_scores(
    written: Sequence[str], references: Sequence[Sequence[str]], *, seed: int, draws: int = DRAWS
) -> dict[str, Estimate]:
    """Return `BLEU-4` in [0, 1] and `CIDEr` in [0, 10] with intervals over pictures.

    CIDEr weighs words by how rare they are among the references of all pictures: it needs at least two
    pictures, and its size depends on the set. Draws keep these weights.

    Args:
        written: a caption per picture.
        references: what people wrote, one or more for each picture.
    Raises:
        EncoderError: the optional packages are not installed.
        DatasetError: no reference holds a word.
    """
    require_scorers()
    said = [words(caption) for caption in written]
    people = [list(filter(None, map(words, group))) for group in references]
    kept = [i for i, group in enumerate(people) if group]
    if not kept:
        raise DatasetError("the captions people wrote hold no words to compare with")
    said, people = [said[i] for i in kept], [people[i] for i in kept]
    bleu = statistic(_bleu(_counts(said, people)), len(said), seed=seed, draws=draws)[0]
    pictures = np.arange(len(said))
    cider = means({"CIDEr": _cider(said, people)}, pictures, pictures, len(said), seed=seed, draws=draws)
    return {"BLEU-4": bleu} | cider


def require_scorers() -> None:
    """Raise EncoderError where sacrebleu or pycocoevalcap is not installed: before hours of captions."""
    for name in ("sacrebleu", "pycocoevalcap"):
        if find_spec(name) is None:
            raise EncoderError(f"scoring captions needs {name}; {INSTALL}")


def _counts(said: Sequence[str], people: Sequence[Sequence[str]]) -> Floats:
    """Return (n, 10): length, closest reference length, then matching and all n-grams for n = 1..4."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", effective_order=True)
    scores = [
        metric.sentence_score(caption, list(group)) for caption, group in zip(said, people, strict=True)
    ]
    return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], np.float64)


def _bleu(counts: Floats) -> Callable[[Floats], Floats]:
    """Return what makes corpus BLEU-4 of weighted pictures, without smoothing."""
    from sacrebleu.metrics.bleu import BLEU

    def compute(weight: Floats) -> Floats:
        length, reference, *grams = (weight @ counts).astype(int).tolist()
        return np.array([BLEU.compute_bleu(grams[:4], grams[4:], length, reference, "none").score / 100])

    return compute


def _cider(said: Sequence[str], people: Sequence[Sequence[str]]) -> Floats:
    """Return (n,) CIDEr-D."""
    from pycocoevalcap.cider.cider import Cider

    references = {i: list(group) for i, group in enumerate(people)}
    _, scores = Cider().compute_score(references, {i: [caption] for i, caption in enumerate(said)})
    return np.asarray(scores, np.float64)
