"""What calibrated scores are good for: junk that finds nothing, exclusions, automatic cuts. Prints tables.

    python -m tests.benchmarks.scores ../shared/data CACHE

`CACHE` keeps the embeddings of the sets (as `training.calibrate` does). The numbers are in docs/scores.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.builtin import BuiltinEncoder
from search import encode_prompted
from search.calibration import NOTHING, Calibration, auto_cut
from training.builtin.questions import (
    Collection,
    collect,
    mentions,
    of_captions,
    of_labels,
    of_words,
)
from training.judging.bootstrap import statistic

JUNK = (
    "asdf qwer|asdf|qwerty|qwer|zxcv bnm|hjkl|sdfgh jklö|aaaaaaa|xxxx|blorp|florgle|snizzlewump|wibble zorp|"
    "grumblefratz|kjhgfdsa|lkjlkj lkj|poiuy|mnbvcxz|fjdksla|ghghgh|qzxv|vbnmvbnm|dfgkjh sdfkjgh|uiop uiop|"
    "asdkjfhaskjdfhkajsdhf|qqqqqqqq wwwwwww|rtyu fghj vbnm|jfjfjf kdkdkd|abcdefg|zzz|bzzt krrk|mxyzptlk|"
    "trololo|skdjf|wqeoiru|and then|but not for|which is|3.14159|0000|2023-06-09|98765|???!|#$%^&|()[]{}|@@@|"
    "ééé ñandú|żółć gęś|καλημέρα κόσμε|добрый вечер|こんにちは世界|مساء الخير|lorem ipsum dolor sit amet|"
    "consectetur adipiscing elit|Xyzzy Plugh|Bartholomew Quimby|Jebediah Thistlewick|Zaphod Beeblebrox|"
    "foo bar baz|null undefined NaN|def __init__(self)|SELECT * FROM users|user@example.com"
)
UNSEEABLE = (
    "eigenvalue decomposition|quantum chromodynamics|fiscal policy|epistemology|the square root of two|"
    "tax deductible interest|existentialism|inflation rate forecast|transubstantiation|deontological ethics"
)
SUPERIOR = {
    "an animal": "ant|bass|beaver|brontosaurus|butterfly|cougar body|cougar face|crab|crayfish|crocodile|"
    "crocodile head|dalmatian|dolphin|dragonfly|elephant|emu|flamingo|flamingo head|gerenuk|hawksbill|"
    "hedgehog|ibis|kangaroo|leopards|llama|lobster|mayfly|nautilus|octopus|okapi|panda|pigeon|platypus|rhino|rooster|"
    "scorpion|sea horse|starfish|stegosaurus|tick|trilobite|wild cat",
    "a musical instrument": "accordion|electric guitar|euphonium|grand piano|mandolin|metronome|saxophone",
    "a vehicle": "airplanes|car side|ferry|helicopter|inline skate|ketch|motorbikes|schooner",
    "a flower": "sunflower|water lilly|lotus|strawberry|bonsai|joshua tree",
}
WORDS = (
    "people", "man", "woman", "child", "boy", "girl", "dog", "cat", "beach", "ocean", "lake", "water", "snow",
    "grass", "field", "mountain", "tree", "street", "ball", "bike", "car", "hat", "table", "food",
)  # fmt: skip
STYLES = {"art painting": "painting", "cartoon": "cartoon", "sketch": "sketch"}


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A question `asked -unwanted` to a library, and which pictures show either."""

    group: str
    library: np.ndarray
    asked: str
    unwanted: str
    shows: np.ndarray
    spoiled: np.ndarray


def exclusions(sets: dict[str, Collection]) -> Iterator[Exclusion]:
    """Yield questions of four kinds; those of captions only where a quarter of what is asked is unwanted."""
    caltech, pacs = sets["caltech101/dev"], sets["pacs"]
    for asked, names in SUPERIOR.items():
        shows = np.isin(caltech.labels, names.split("|"))
        for name in names.split("|"):
            spoiled = caltech.labels == name
            if spoiled.sum() >= 2:
                yield Exclusion("kind -member", caltech.images, asked, name, shows, spoiled)
    for style, word in STYLES.items():
        for label in np.unique(pacs.labels):
            of_style, of_label = pacs.styles == style, pacs.labels == label
            yield Exclusion("style -thing", pacs.images, f"a {word}", str(label), of_style, of_label)
            yield Exclusion("thing -style", pacs.images, f"a {label}", word, of_label, of_style)
    for name in ("flickr8k/dev", "coco/dev"):
        known = mentions(sets[name], WORDS, 12)
        for first, shown in known.items():
            for second, there in known.items():
                sure = np.isfinite(shown) & np.isfinite(there)
                shows, spoiled = shown[sure] == 1, there[sure] == 1
                both = (shows & spoiled).sum()
                if first != second and both >= 5 and 0.25 <= both / shows.sum() <= 0.8:
                    library = sets[name].images[sure]
                    yield Exclusion("scene -thing", library, f"a photo of a {first}", second, shows, spoiled)


def interval(values: list[float]) -> str:
    """Return a mean with its 95 % interval over questions."""
    rows = np.array(values)
    found = statistic(lambda weight: np.array([weight @ rows / weight.sum()]), len(rows), seed=0, draws=300)[
        0
    ]
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main(data: Path, cache: Path) -> None:
    encoder = BuiltinEncoder(threads=1)
    calibration = Calibration.for_encoder(encoder)
    names = ("caltech101/dev", "imagenet_samples", "pacs", "flickr8k/dev", "coco/dev")
    sets = {name: found for name in names if (found := collect(encoder, data, cache, name)) is not None}

    print("junk: share of texts that find something, at P(anything) >= NOTHING and >= 0.05")
    for title, texts in (("junk", JUNK.split("|")), ("words for what cannot be seen", UNSEEABLE.split("|"))):
        rows = encode_prompted(encoder, texts, calibration.prompts)
        for name, pictures in sets.items():
            for size in (20, 10_000):
                library = np.resize(pictures.images, (size, encoder.dim))
                best = [
                    calibration.null(row, library, words=text).anything(library @ row)
                    for row, text in zip(rows, texts, strict=True)
                ]
                print(
                    f"  {title:30} {name:18} {size:6} pictures "
                    f"{np.mean(np.array(best) >= NOTHING):.3f} {np.mean(np.array(best) >= 0.05):.3f}"
                )

    print("exclusions: P@10 | of the first ten, unwanted | AP | right ones lost")
    encoded: dict[str, np.ndarray] = {}

    def of(text: str) -> np.ndarray:
        if text not in encoded:
            encoded[text] = encode_prompted(encoder, [text], calibration.prompts)[0]
        return encoded[text]

    asked = list(exclusions(sets))
    methods: dict[str, Callable[[Exclusion], tuple[np.ndarray, np.ndarray]]] = {
        "none": lambda e: (e.library @ of(e.asked), np.ones(len(e.library), bool))
    }
    for weight in (0.2, 0.3, 0.5, 1.0):
        methods[f"q - {weight} n"] = lambda e, w=weight: (  # type: ignore[misc]
            e.library @ (of(e.asked) - w * of(e.unwanted)),
            np.ones(len(e.library), bool),
        )

    def shows(e: Exclusion) -> np.ndarray:
        return calibration.shows(of(e.unwanted), e.library, e.library, "text", words=e.unwanted)

    for border in (0.2, 0.5):
        methods[f"P(shows) < {border}"] = lambda e, b=border: (e.library @ of(e.asked), shows(e) < b)  # type: ignore[misc]
    methods["P(shows) < 0.5, q - 0.3 n"] = lambda e: (
        e.library @ (of(e.asked) - 0.3 * of(e.unwanted)),
        shows(e) < 0.5,
    )
    groups = list(dict.fromkeys(e.group for e in asked))
    for title, method in methods.items():
        for group in groups:
            found: list[list[float]] = [[], [], [], []]
            for e in asked:
                if e.group != group:
                    continue
                keys, kept = method(e)
                order = np.argsort(-keys, kind="stable")
                order = order[kept[order]]
                right = e.shows & ~e.spoiled
                ranked = right[order]
                precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
                found[0].append(ranked[:10].sum() / 10)
                found[1].append(e.spoiled[order[:10]].sum() / 10)
                found[2].append(float(precision[ranked].sum() / right.sum()))
                found[3].append((right & ~kept).sum() / right.sum())
            print(f"  {title:26} {group:14} {len(found[0]):4}  " + "  ".join(map(interval, found)))

    print("cuts: mean F1 over questions that have an answer")
    for pictures in sets.values():
        described = bool(pictures.captions.size)
        kinds = [of_words(encoder, data, pictures), of_captions(pictures)] if described else []
        for questions in kinds or [of_labels(encoder, pictures)]:
            f1: dict[str, list[float]] = {}
            title = ""
            for one in questions:
                title = one.name
                scores = one.queries @ one.library.T
                for number in np.flatnonzero(one.answered):
                    known = np.isfinite(one.truth[number])
                    order = np.argsort(-scores[number][known], kind="stable")
                    ordered, right = scores[number][known][order], one.truth[number][known][order] > 0.5
                    null = calibration.null(one.queries[number], one.library, words=one.words[number])
                    cuts = {"auto": auto_cut(null.probabilities(ordered)), "10": 10}
                    cuts |= {f"cos {c}": int((ordered >= c).sum()) for c in (0.35, 0.4, 0.45)}
                    for key, cut in cuts.items():
                        kept = min(cut, len(right))
                        f1.setdefault(key, []).append(2 * right[:kept].sum() / (kept + right.sum()))
            print(f"  {title:26} " + "  ".join(f"{key}: {np.mean(v):.3f}" for key, v in f1.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
