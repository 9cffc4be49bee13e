"""From logits to a sentence: the search against an exhaustive one, and how pieces are joined."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from encoders.decoding import Rules, beam_search, join_pieces, tidy

VOCAB, START, END = 6, 1, 2
RULES = Rules(END, length=6, banned=frozenset({0, START}))


def decoder(seed: int, sharpness: float = 2.0) -> Any:
    """Return a decoder whose logits are noise that depends on the picture and on every id so far."""

    def next_logits(pictures: Any, ids: Any) -> Any:
        rows = [
            np.random.default_rng([seed, picture, *row]).normal(0, sharpness, VOCAB)
            for picture, row in zip(pictures, ids, strict=True)
        ]
        return np.array(rows, dtype=np.float32)

    return next_logits


def log_probability(next_logits: Any, picture: int, sequence: tuple[int, ...], known: int) -> Any:
    """Return the sum over the ids after the first `known`, straight from the definition."""
    total = np.float64(0)
    for t in range(known, len(sequence)):
        row = next_logits(np.array([picture]), np.array([sequence[:t]]))[0].astype(np.float64)
        total += row[sequence[t]] - np.log(np.exp(np.delete(row, [0, START])).sum())
    return total


def exhaustive(next_logits: Any, picture: int, prefix: tuple[int, ...], rules: Rules) -> list[int]:
    """The slow reference: every sequence that the rules allow is scored, and the best one returned."""
    best: tuple[float, list[int]] = (-np.inf, [])
    free = [i for i in range(VOCAB) if i != rules.end and i not in rules.banned]
    for words in range(rules.length - len(prefix)):
        if words < rules.least and words < rules.length - len(prefix) - 1:
            continue
        for body in itertools.product(free, repeat=words):
            whole = (*prefix, *body)
            runs = [whole[i : i + rules.distinct] for i in range(len(whole) - rules.distinct + 1)]
            new = runs[max(0, len(prefix) - rules.distinct + 1) :]
            if any(runs.index(run) < runs.index(run, len(runs) - len(new)) for run in new) or len(
                set(new)
            ) < len(new):
                continue
            total = log_probability(next_logits, picture, (*whole, rules.end), len(prefix))
            score = total / (words + 1) ** rules.length_penalty
            if score > best[0]:
                best = (score, list(body))
    return best[1]


def plain_beam(next_logits: Any, picture: int, prefix: tuple[int, ...], rules: Rules) -> list[int]:
    """The same search without batches, partial sorting or stopping early."""
    beams, ended = [(0.0, prefix)], []
    for t in range(len(prefix), rules.length):
        grown = []
        for _, sequence in beams:
            for token in range(VOCAB):
                whole = (*sequence, token)
                total = log_probability(next_logits, picture, whole, len(prefix))
                words = len(sequence) - len(prefix)
                if token == rules.end:
                    if words >= rules.least or t == rules.length - 1:
                        ended.append((total / (words + 1) ** rules.length_penalty, sequence))
                elif token not in rules.banned and not (
                    len(whole) > 3 and whole[-3:] in [whole[i : i + 3] for i in range(len(whole) - 3)]
                ):
                    grown.append((total, whole))
        beams = sorted(grown, reverse=True)[: rules.width]
    return list(max(ended)[1][len(prefix) :])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(seed: int, penalty: float) -> None:
    rules = replace(RULES, width=200, length_penalty=penalty)
    found = beam_search(decoder(seed), 2, [START], rules)
    assert found == [exhaustive(decoder(seed), picture, (START,), rules) for picture in range(2)]


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_end_of_a_prefix(seed: int) -> None:
    rules = replace(RULES, width=200, length=8, least=0)
    prefix = (START, 3, 4, 3)
    assert beam_search(decoder(seed), 1, prefix, rules) == [exhaustive(decoder(seed), 0, prefix, rules)]


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_beam_is_the_plain_one_and_pictures_do_not_mix(width: int, seed: int) -> None:
    rules = replace(RULES, width=width, length=8)
    found = beam_search(decoder(seed, 1.0), 5, [START], rules)
    assert found == [plain_beam(decoder(seed, 1.0), picture, (START,), rules) for picture in range(5)]
    assert len({tuple(ids) for ids in found}) > 1


def test_no_run_of_three_comes_twice() -> None:
    def stutter(pictures: Any, ids: Any) -> Any:
        logits = np.zeros((len(ids), VOCAB), dtype=np.float32)
        logits[:, 3] = 9  # the decoder wants nothing else
        logits[:, END] = -99
        return logits

    (ids,) = beam_search(stutter, 1, [START], replace(RULES, length=12))
    runs = list(zip(ids, ids[1:], ids[2:], strict=False))
    assert len(set(runs)) == len(runs) > 5


def test_end_waits_for_the_least_number_of_words() -> None:
    def brief(pictures: Any, ids: Any) -> Any:
        return np.tile(np.array([0, 0, 9, 1, 0, 0], dtype=np.float32), (len(ids), 1))

    for least in (0, 1, 3):
        assert beam_search(brief, 1, [START], replace(RULES, least=least)) == [[3] * least]


def test_a_sequence_is_never_longer_than_its_length_and_never_holds_what_is_banned() -> None:
    def endless(pictures: Any, ids: Any) -> Any:
        assert ids.shape[1] < RULES.length
        end = -50 if ids.shape[1] == RULES.length - 1 else -5000
        return np.tile(np.array([99, 99, end, 0, 1, 2], dtype=np.float32), (len(ids), 1))

    (ids,) = beam_search(endless, 1, [START], RULES)
    assert len(ids) == RULES.length - 2
    assert not set(ids) & {0, START, END}


def test_logits_that_are_no_numbers_are_an_error() -> None:
    for value in (np.nan, np.inf):

        def broken(pictures: Any, ids: Any, value: float = value) -> Any:
            logits = np.zeros((len(ids), VOCAB), dtype=np.float32)
            logits[-1, 4] = value
            return logits

        with pytest.raises(FloatingPointError, match="NaN or infinite"):
            beam_search(broken, 3, [START], RULES)


def test_a_token_of_probability_0_is_not_an_error() -> None:
    def masked(pictures: Any, ids: Any) -> Any:
        return np.tile(np.array([-np.inf, -np.inf, 1, 2, -np.inf, -np.inf], np.float32), (len(ids), 1))

    (ids,) = beam_search(masked, 1, [START], RULES)
    assert set(ids) <= {3}


def test_banned_tokens_take_no_probability_from_the_others() -> None:
    def obsessed(likely: float) -> Any:
        table = np.random.default_rng(5).normal(0, 2, (RULES.length, VOCAB)).astype(np.float32)
        table[:, [0, START]] = likely
        return lambda pictures, ids: table[[ids.shape[1]] * len(ids)]

    assert beam_search(obsessed(-99), 1, [START], RULES) == beam_search(obsessed(99), 1, [START], RULES)
    with pytest.raises(FloatingPointError):  # also where nobody would have read it
        beam_search(obsessed(np.nan), 1, [START], RULES)


def test_a_prefix_without_room_is_a_mistake_of_the_caller() -> None:
    for prefix in ([], [START] * 6):
        with pytest.raises(ValueError, match="prefix"):
            beam_search(decoder(0), 1, prefix, RULES)
    assert beam_search(decoder(0), 0, [START], RULES) == []


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [
        ("a man ' s t - shirt , red .", "a man's t-shirt, red"),
        ("snow ##board ##er ' s jump", "snowboarder's jump"),
        ("two dogs ' t - shirts", "two dogs ' t-shirts"),
        ('a sign that says " no entry " ( blue )', 'a sign that says "no entry" (blue)'),
        ("don ' t stop !", "don't stop!"),
        ("##ing", "ing"),
        ("", ""),
        (". .", ""),
        ("a \x1b[31m red\n\tcar \u202e", "a [31m red car"),
    ],
)
def test_pieces_become_a_sentence_as_people_type(pieces: str, sentence: str) -> None:
    assert join_pieces(pieces.split(" ")) == sentence
    assert tidy(sentence) == sentence
