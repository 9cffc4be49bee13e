"""What the built-in encoder's cosines are worth: writes calibration.json and tells how well it holds.

    python -c "from pathlib import Path; from training import calibrate; \\
        calibrate(Path('DATA'), Path('CACHE'), Path('encoders/weights/builtin'), print)"

Every curve is fitted by logistic regression on all sets, each counted the same; every number that is told is
of a curve fitted without the set it is told of. docs/scores.md holds them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders import Embeddings, EncoderError, load_encoder, normalize
from search import (
    PHRASES,
    Curve,
    Scene,
    discriminant,
    encode_prompted,
    nonsense,
    of_bank,
    of_library,
    sentence_share,
)
from training.builtin.collection import class_names, read_lines, read_set
from training.builtin.questions import (
    DESCRIBED,
    LABELLED,
    PROMPTS,
    Collection,
    Questions,
    collect,
    of_captions,
    of_labels,
    of_pictures,
    of_words,
)
from training.judging.bootstrap import Estimate, statistic
from training.judging.metrics import Floats

_SHOWN, _OTHERS = 20, 5
"""Best hits of a question that a curve of hits learns from, and others drawn."""
_WEIGHTS = {"flowers labels": 0.3, "pacs labels": 0.3}
"""What counts less than the others: sets of a few classes, most of them learned by the encoder."""
_IN_WORDS = {
    "_any": ("score", "long", "score_long", "scene", "common"),
    "": ("score", "long", "score_long", "scene", "score_scene"),
}
"""Features of questions in words, of the best hit and of a hit."""
_PARTING = (30.0, 3.9)
"""Slope and offset of a library's share of scenes: sets of things lie below -0.13, photos above it."""
BINS = 15


def calibrate(data: Path, cache: Path, out: Path, report: Callable[[str], None]) -> None:
    """Fit the curves of the encoder in `out`, write its calibration.json, and tell how well they hold.

    Args:
        data: folder of the training sets.
        cache: embeddings of the sets are kept there.
        out: folder of an encoder of the built-in kind.
        report: told a line each.
    Raises:
        EncoderError: too few sets are there.
    """
    encoder = load_encoder(f"local-dir:{out}", cache_dir=cache)
    sets = [
        known
        for name in (*LABELLED, *DESCRIBED)
        if (known := collect(encoder, data, cache, name)) is not None
    ]
    if len(sets) < 3:
        raise EncoderError(f"{data} has {len(sets)} of the sets that scores are calibrated on; 3 are needed")
    texts, pictures, strict = [], [], []
    for known in sets:
        if known.captions.size:
            texts += [*of_words(encoder, data, known), *of_captions(known)]
            strict += list(of_captions(known, own=True))
        else:
            texts += list(of_labels(encoder, known))
        pictures += list(of_pictures(known))
    bank = encoder.encode_texts(PHRASES)
    scene = _scene(encoder.encode_texts(_descriptions(data)), encoder.encode_texts(class_names(data)[:1203]))
    middles = {known.name: known.images.mean(0) for known in sets}
    curves: dict[str, Curve] = {}
    for name, asked, judged, by_suffix in (
        ("text", texts, [*texts, *strict], _IN_WORDS),
        ("image", pictures, pictures, {"_any": ("score",), "": ("score",)}),
    ):
        for suffix, features in by_suffix.items():
            fitted = [
                Table.of(q, scene, best=bool(suffix), pictures=_pictures(middles, q.base)) for q in judged
            ]
            report(f"{name}{suffix}")
            curves[name + suffix] = _fit(fitted[: len(asked)], features)
            _tell(fitted, len(asked), features, report)
    for unit in ("of_library", "of_bank"):
        for suffix in ("_any", ""):
            fitted = [Table.of(q, scene, best=bool(suffix), unit=unit, bank=bank) for q in texts]
            report(f"other encoders, {unit}: text{suffix} {_fit(fitted, ('score',))}")
            _tell(fitted, len(fitted), ("score",), report)
    sense = discriminant(
        encode_prompted(encoder, _meant(data, sets), PROMPTS),
        encode_prompted(encoder, nonsense(720), PROMPTS),
    )
    record = {
        "format": 1,
        "fingerprint": encoder.fingerprint,
        "curves": {
            name: {key: round(v, 4) for key, v in asdict(c).items() if v} for name, c in curves.items()
        },
        "sense": sense
        and {"slope": round(sense[1], 4), "offset": round(sense[2], 4), "direction": _short(sense[0])},
        "scene": {"slope": scene.slope, "offset": scene.offset, "direction": _short(scene.direction)},
        "pictures": _short(_pictures(middles)),
        "prompts": PROMPTS,
    }
    (out / "calibration.json").write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


class Table:
    """What is known of the hits of one library's questions: one row per hit, or per best hit.

    Attributes:
        name, base: of the questions.
        columns: the features by name, (rows,) each.
        right: (rows,) bool.
    """

    def __init__(
        self, questions: Questions, columns: dict[str, Floats], right: npt.NDArray[np.bool_]
    ) -> None:
        self.name, self.base, self.columns, self.right = questions.name, questions.base, columns, right

    @classmethod
    def of(
        cls,
        questions: Questions,
        scene: Scene,
        *,
        best: bool,
        unit: str = "",
        bank: Embeddings | None = None,
        pictures: Embeddings | None = None,
    ) -> Table:
        """Return the table of best hits (`best`), or of the first hits and a few others.

        Args:
            unit: `of_bank` or `of_library`, what scores are put in; a cosine without.
            pictures: the mean of pictures of other sets.
        """
        scores = (questions.queries @ questions.library.T).astype(np.float64)
        long = np.array([sentence_share(text) for text in questions.words] or [0.0] * len(scores))
        scenic = scene.share(questions.library)
        if best:
            chosen, right = scores.argmax(1)[:, None], questions.answered[:, None].astype(np.float32)
        else:
            rng = np.random.default_rng(0)
            first = np.argsort(-scores, axis=1, kind="stable")[:, :_SHOWN]
            others = rng.integers(0, scores.shape[1], (len(scores), _OTHERS))
            chosen = np.concatenate([first, others], 1)
            right = np.take_along_axis(questions.truth, chosen, 1)
        if unit == "of_library":
            units = [of_library(query, questions.library) for query in questions.queries]
        else:
            units = [of_bank(bank, questions.library) if bank is not None and unit else (0.0, 1.0)] * len(
                scores
            )
        centre, spread = np.array(units).T[:, :, None]
        score = (np.take_along_axis(scores, chosen, 1) - centre) / spread
        known = np.isfinite(right)
        common = (questions.queries @ pictures if pictures is not None else np.zeros(len(scores)))[:, None]
        spread_long = np.broadcast_to(long[:, None], score.shape)
        columns = {
            "score": score,
            "long": spread_long,
            "score_long": score * spread_long,
            "scene": scenic * (1 - spread_long),
            "score_scene": score * scenic * (1 - spread_long),
            "common": common * (1 - spread_long),
        }
        return cls(questions, {key: v[known] for key, v in columns.items()}, right[known] > 0.5)

    def logits(self, curve: Curve) -> Floats:
        """Return (rows,) logits."""
        weights = asdict(curve)
        found: Floats = sum(weights[key] * v for key, v in self.columns.items()) + curve.offset
        return found


def _fit(tables: Sequence[Table], features: Sequence[str]) -> Curve:
    """Return the curve of highest likelihood, every set counted the same (Newton's method, ridge 1e-3)."""
    rows = np.concatenate([np.stack([t.columns[f] for f in features], 1) for t in tables])
    right = np.concatenate([t.right for t in tables]).astype(np.float64)
    sizes: dict[str, int] = {}
    for t in tables:
        sizes[t.name] = sizes.get(t.name, 0) + len(t.right)
    weight = np.concatenate(
        [np.full(len(t.right), _WEIGHTS.get(t.name, 1.0) / sizes[t.name]) for t in tables]
    )
    weight *= 1000 / weight.sum()
    mean, spread = rows.mean(0), rows.std(0) + 1e-9
    design = np.concatenate([(rows - mean) / spread, np.ones((len(rows), 1))], 1)
    beta = np.zeros(design.shape[1])
    ridge = np.diag([1e-2] * len(features) + [0.0])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-design @ beta))
        slope = design.T @ (weight * (right - likely)) - ridge @ beta
        bend = (design * (weight * likely * (1 - likely))[:, None]).T @ design + ridge
        step = np.linalg.solve(bend, slope)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    weights = beta[:-1] / spread
    return Curve(float(beta[-1] - weights @ mean), **dict(zip(features, map(float, weights), strict=True)))


def _tell(
    tables: Sequence[Table], fitted: int, features: Sequence[str], report: Callable[[str], None]
) -> None:
    """Report AUROC and ECE of every set, by a curve that was fitted without it."""
    for name in dict.fromkeys(t.name for t in tables):
        mine = [t for t in tables if t.name == name]
        curve = _fit([t for t in tables[:fitted] if t.base != mine[0].base], features)
        likely = np.concatenate([1 / (1 + np.exp(-t.logits(curve))) for t in mine])
        right = np.concatenate([t.right for t in mine])
        found = judge(likely, right, draws=200 if len(right) < 20_000 else 40)
        text = "  ".join(f"{key} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for key, e in found.items())
        report(f"  {name:24} {len(right):6} rows, {right.mean():.2f} right  {text}")


def judge(likely: Floats, right: npt.NDArray[np.bool_], draws: int = 200) -> dict[str, Estimate]:
    """Return AUROC and expected calibration error (equal mass, equal width) with 95 % intervals.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2; Nixon et al. 2019, arXiv:1904.01685.
    """
    order = np.argsort(likely, kind="stable")
    p, y = likely[order].astype(np.float64), right[order].astype(np.float64)
    ties = np.searchsorted(p, p, side="left"), np.searchsorted(p, p, side="right")
    width = np.minimum((p * BINS).astype(np.int64), BINS - 1)

    def compute(weight: Floats) -> Floats:
        wrong = np.concatenate([[0.0], np.cumsum(weight * (1 - y))])
        below = (wrong[ties[0]] + wrong[ties[1]]) / 2
        area = (weight * y) @ below / max((weight * y).sum() * wrong[-1], 1e-12)
        mass = np.minimum((np.cumsum(weight) - weight / 2) / weight.sum() * BINS, BINS - 1).astype(np.int64)
        errors = [
            np.abs(np.bincount(bins, weight * (y - p), BINS)).sum() / weight.sum() for bins in (mass, width)
        ]
        return np.array([area, *errors])

    return dict(
        zip(("AUROC", "ECE", "ECE (width)"), statistic(compute, len(p), seed=0, draws=draws), strict=True)
    )


def _descriptions(data: Path) -> list[str]:
    return read_lines(data / "text" / "multi30k_en.txt.gz")[::150]


def _meant(data: Path, sets: Sequence[Collection]) -> list[str]:
    """Return texts of every kind that people ask with: sentences, names, prompts, Chinese."""
    names = class_names(data)[:1203]
    chinese = [
        str(text)
        for sample in (read_set(data, "flickr8k") or [])[::20]
        for text in sample.meta.get("captions_zh", [])[:1]
    ]
    return [*_descriptions(data), *names, *(f"a photo of a {name}" for name in names[::2]), *chinese]


def _scene(sentences: Embeddings, names: Embeddings) -> Scene:
    """Return the direction from pictures of one thing to pictures of scenes, and where the two part."""
    return Scene(normalize((sentences.mean(0) - names.mean(0))[None])[0], *_PARTING)


def _pictures(middles: Mapping[str, Embeddings], without: str = "") -> Embeddings:
    """Return (dim,), what pictures have in common: the mean of the sets' means, all but one of them."""
    found: Embeddings = np.mean([row for name, row in middles.items() if name != without], axis=0)
    return found


def _short(vector: Embeddings) -> list[float]:
    return [round(float(value), 5) for value in vector]
