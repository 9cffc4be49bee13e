"""Both stages at the smallest size: gradients, seeds, resuming, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'pixseek[train]'")

from training.builtin.backbone import MobileNetV2, SameConv  # noqa: E402
from training.builtin.captions import Vocabulary  # noqa: E402
from training.builtin.contrast import (  # noqa: E402
    Pairs,
    Settings,
    Step,
    Towers,
    embed_ids,
    embed_maps,
    embed_rows,
    train_towers,
)
from training.builtin.distil import TextData, by_length, initialise, train_text  # noqa: E402
from training.builtin.features import PictureSet  # noqa: E402
from training.builtin.losses import (  # noqa: E402
    caption_loss,
    class_loss,
    contrastive_loss,
    distillation_loss,
    structure_loss,
)
from training.builtin.models import Decoder, ImageHead, Shape, TextTower  # noqa: E402
from training.builtin.tokenizer import encode_all, train_tokenizer  # noqa: E402

torch.set_num_threads(1)  # small matrices: more threads only wait for one another
SHAPE = Shape(
    dim=16, vocab=60, context=12, width=16, layers=1, heads=2, hidden=16, pool_heads=4, seen=16,
    decoder_layers=1, decoder_heads=2, length=10, image_dropout=0.1,
)  # fmt: skip
TEXTS = [
    f"{color} {thing}" for color in ("red", "green", "blue", "old") for thing in ("dog", "car on a road")
]
CHINESE = ["红狗", "路上的红车"]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def tiny_backbone() -> MobileNetV2:
    """A backbone of the real layer plan with as few channels as will do."""
    torch.manual_seed(0)
    convs = [SameConv(torch.randn(8, 3, 3, 3) * 0.2, torch.randn(8) * 0.1, 2, True)]
    convs.append(SameConv(torch.randn(8, 1, 3, 3) * 0.2, torch.randn(8) * 0.1, 1, True))
    convs.append(SameConv(torch.randn(8, 8, 1, 1) * 0.2, torch.randn(8) * 0.1, 1, False))
    for block in range(16):
        stride = 2 if block in (0, 2, 5, 12) else 1
        convs.append(SameConv(torch.randn(16, 8, 1, 1) * 0.3, torch.randn(16) * 0.1, 1, True))
        convs.append(SameConv(torch.randn(16, 1, 3, 3) * 0.3, torch.randn(16) * 0.1, stride, True))
        convs.append(SameConv(torch.randn(8, 16, 1, 1) * 0.3, torch.randn(8) * 0.1, 1, False))
    convs.append(SameConv(torch.randn(16, 8, 1, 1) * 0.5, torch.randn(16) * 0.1, 1, True))
    return MobileNetV2(convs)


TINY_MAPS = (8, 7, 7)
TOKENIZER = train_tokenizer([*TEXTS, *CHINESE], vocab=SHAPE.vocab, context=SHAPE.context)
VOCABULARY = Vocabulary.of(TEXTS, TOKENIZER)


@pytest.fixture
def data() -> TextData:
    targets = unit(np.random.default_rng(0).normal(size=(len(TEXTS), SHAPE.dim))).astype(np.float16)
    both = [*TEXTS, *CHINESE]
    return TextData.of(
        both, encode_all(TOKENIZER, both, SHAPE.context), np.concatenate([targets, targets[:2]])
    )


@pytest.fixture
def pairs(data: TextData) -> Pairs:
    maps = np.random.default_rng(1).normal(size=(len(TEXTS), *TINY_MAPS)).astype(np.float16)
    chinese = tuple((text,) for text in CHINESE) + ((),) * (len(TEXTS) - len(CHINESE))
    english = tuple((text, "a banned sentence") for text in TEXTS)
    pictures = PictureSet("flickr8k", english, chinese, (maps,))
    soft = np.random.default_rng(2).dirichlet(np.full(1000, 0.01), len(TEXTS)).astype(np.float16)
    return Pairs.of([pictures], data, [soft])


def towers(seed: int = 0) -> Towers:
    upper = tiny_backbone().upper()
    torch.manual_seed(seed)
    return Towers(TextTower(SHAPE), ImageHead(SHAPE, upper), Decoder(SHAPE, len(VOCABULARY.tokens)))


def step_of(both: Towers, pairs: Pairs, data: TextData, **settings: float) -> Step:
    captions = VOCABULARY.ids([*TEXTS, *CHINESE], TOKENIZER, SHAPE.length)
    classes = unit(np.random.default_rng(3).normal(size=(1000, SHAPE.dim))).astype(np.float32)
    return Step(both, pairs, data, captions, classes, Settings(**settings))  # type: ignore[arg-type]


def test_towers_return_unit_rows_and_padding_changes_nothing() -> None:
    both = towers().eval()
    ids = torch.tensor([[2, 5, 6], [2, 7, 0]])
    rows = both.text(ids)
    assert rows.shape == (2, SHAPE.dim)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(both.text(torch.tensor([[2, 7, 0, 0, 0]]))[0], rows[1])
    embeddings, positions = both.head(torch.randn(3, *TINY_MAPS))
    assert embeddings.shape == (3, SHAPE.dim)
    assert positions.shape == (3, 50, SHAPE.seen)


def test_the_decoder_does_not_see_what_comes_next() -> None:
    decoder = towers().decoder.eval()
    positions = torch.randn(1, 50, SHAPE.seen)
    one, two = decoder(positions, torch.tensor([[1, 5, 6]])), decoder(positions, torch.tensor([[1, 5, 7]]))
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2])
    assert not torch.allclose(one, decoder(torch.randn(1, 50, SHAPE.seen), torch.tensor([[1, 5, 6]])))


def test_gradients_reach_every_parameter_of_both_towers_and_the_decoder(data: TextData, pairs: Pairs) -> None:
    both = towers().train()
    step = step_of(both, pairs, data, epochs=1, wide=2, chinese_share=1.0, told_share=1.0)
    parts = step.losses(np.arange(len(TEXTS)), np.random.default_rng(0))
    assert set(parts) == {"teacher", "classes", "english", "chinese", "teach", "told"}
    torch.stack(list(parts.values())).sum().backward()
    missing = {n for n, p in both.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # attend.bias and a key's bias shift every position alike: the softmax takes it out again.
    assert missing <= {"head.attend.bias"}


def test_attention_pooling_is_mean_plus_weighted_sum() -> None:
    head = towers().head.eval()
    torch.nn.init.normal_(head.attend.weight)
    x = torch.randn(2, 16, 7, 7)
    weights = head.attend(x).flatten(2).softmax(-1)
    for n, c in ((0, 0), (1, 5), (1, 15)):
        channel = x[n, c].flatten()
        expected = channel.mean() + (channel * weights[n, c // 4]).sum()
        torch.testing.assert_close(head.pool(x)[n, c], expected, rtol=1e-4, atol=1e-4)


def test_rows_come_back_in_the_order_asked_for(data: TextData) -> None:
    text = towers().text.eval()
    rows = np.array([7, 0, 3, 3, 1])
    expected = embed_ids(text, data.ids[rows])
    np.testing.assert_allclose(embed_rows(text, data, rows).detach().numpy(), expected, atol=1e-5)


def test_losses_are_those_computed_by_hand() -> None:
    eye = torch.eye(2)
    none = torch.zeros(2, 2, dtype=torch.bool)
    expected = -np.log(np.e / (np.e + 1))
    assert contrastive_loss(eye, eye, torch.tensor(1.0), none, torch.ones(2)).item() == pytest.approx(
        expected
    )
    # Where the two sentences mean the same there is no negative left, and nothing to lose.
    assert contrastive_loss(eye, eye, torch.tensor(1.0), ~none, torch.ones(2)).item() == pytest.approx(0)
    assert distillation_loss(eye, eye.flip(0)).item() == pytest.approx(1)
    points = torch.nn.functional.normalize(torch.randn(6, 4), dim=-1)
    assert structure_loss(points, points).item() == pytest.approx(0, abs=1e-5)


def test_a_classifier_that_is_unsure_says_little() -> None:
    eye = torch.eye(2)
    sure, unsure = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    one = torch.tensor(1.0)
    expected = -np.log(np.e / (np.e + 1))
    assert class_loss(eye[:1], eye, one, sure).item() == pytest.approx(expected)
    both = class_loss(eye, eye, one, torch.cat([sure, unsure])).item()
    assert both == pytest.approx((1.0 * expected + 0.5 * (expected + 0.5)) / 1.5, rel=1e-4)


def test_padding_of_a_caption_costs_nothing() -> None:
    logits = torch.randn(1, 4, 6)
    short, padded = torch.tensor([[1, 5, 2]]), torch.tensor([[1, 5, 2, 0, 0]])
    torch.testing.assert_close(caption_loss(logits[:, :2], short), caption_loss(logits, padded))
    exact = caption_loss(logits[:, :2], short, smoothing=0.0)
    by_hand = -(logits[0, 0].log_softmax(-1)[5] + logits[0, 1].log_softmax(-1)[2]) / 2
    torch.testing.assert_close(exact, by_hand)


def test_captions_with_a_rare_piece_or_too_many_are_not_written() -> None:
    vocabulary = Vocabulary.of(["a red dog.", "the red dog", "a cat"], TOKENIZER)
    assert vocabulary.tokens[:3] == ("[PAD]", "[START]", "[END]")
    ids = vocabulary.ids(["a red dog", "a cat", "red " * 20], TOKENIZER, 8)
    assert [vocabulary.tokens[number] for number in ids[0] if number] == [
        "[START]",
        "a",
        "red",
        "dog",
        "[END]",
    ]
    assert not ids[1:].any()


def test_batches_of_like_length_cover_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 64)
    rows = np.concatenate(list(by_length(lengths, 8, np.random.default_rng(1))))
    assert sorted(rows) == list(range(64))


def test_a_caption_that_is_no_training_sentence_is_never_picked(pairs: Pairs, data: TextData) -> None:
    assert all(len(rows) == 1 for rows in pairs.english)
    picked = pairs.captions(np.arange(4), pairs.english, np.random.default_rng(0))
    assert [[*TEXTS, *CHINESE][row] for row in picked] == TEXTS[:4]
    assert [len(rows) for rows in pairs.chinese] == [1, 1] + [0] * 6


def test_the_tower_starts_as_a_bag_of_its_teachers_words() -> None:
    tower = TextTower(SHAPE)
    vectors = unit(np.random.default_rng(0).normal(size=(SHAPE.vocab, SHAPE.dim))).astype(np.float32)
    initialise(tower, vectors)
    rows = embed_ids(tower, np.arange(3, SHAPE.vocab, dtype=np.int16)[:, None])
    assert float((rows * vectors[3:]).sum(-1).mean()) > 0.5


def test_the_same_seed_walks_the_same_curve(tmp_path: Path, data: TextData, pairs: Pairs) -> None:
    curves = []
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        both = towers(seed)
        curve = train_text(both.text, data, folder=tmp_path / run, epochs=2, batch=4, seed=seed)
        step = step_of(both, pairs, data, epochs=2, batch=4, wide=2)
        curve += train_towers(step, folder=tmp_path / run, seed=seed)
        curves.append(curve)
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_a_killed_run_ends_where_an_unbroken_one_does(tmp_path: Path, data: TextData, pairs: Pairs) -> None:
    whole, broken, again = towers(), towers(), towers(5)
    settings = {"epochs": 3, "batch": 4, "wide": 2, "rate": 1e-2, "text_rate": 1e-2}
    train_towers(step_of(whole, pairs, data, **settings), folder=tmp_path / "whole")
    stop = RuntimeError("killed")

    calls: list[int] = []

    class Killed(Pairs):
        def epoch(self, batch: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
            calls.append(batch)
            if len(calls) == 4:  # one call counts the steps, two epochs run, the third is cut off
                yield next(iter(Pairs.epoch(self, batch, rng)))
                raise stop
            yield from Pairs.epoch(self, batch, rng)

    cut = Killed(*(getattr(pairs, name) for name in Pairs.__dataclass_fields__))
    with pytest.raises(RuntimeError, match="killed"):
        train_towers(step_of(broken, cut, data, **settings), folder=tmp_path / "broken")
    curve = train_towers(step_of(again, pairs, data, **settings), folder=tmp_path / "broken")
    assert len(curve) == 1
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_training_separates_the_pictures(tmp_path: Path, data: TextData, pairs: Pairs) -> None:
    both = towers()
    rates = {"rate": 1e-2, "text_rate": 1e-2, "upper_rate": 1e-2}
    train_towers(
        step_of(both, pairs, data, epochs=60, batch=8, wide=2, classes=0.0, **rates), folder=tmp_path
    )
    scores = embed_ids(both.text, data.ids[: len(TEXTS)]) @ embed_maps(both.head, pairs.sets[0].views[0]).T
    assert (scores.argmax(1) == np.arange(len(TEXTS))).mean() >= 0.75


def test_exported_files_load_as_an_encoder_that_agrees_with_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="export needs onnx: pip install 'pixseek[train]'")
    from encoders.builtin import BuiltinEncoder
    from training.builtin.export import export_encoder
    from training.builtin.features import PREPROCESS
    from training.builtin.models import ImageTower

    both = towers().eval()
    with torch.no_grad():  # as after training: the exporter stores equal parameters once
        for parameter in both.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    image = ImageTower(tiny_backbone(), both.head).eval()
    cosines = export_encoder(
        image,
        both.text,
        both.decoder,
        TOKENIZER.to_str(),
        VOCABULARY.tokens,
        tmp_path,
        shape=SHAPE,
        preprocess=PREPROCESS,
        recipe="test",
    )
    assert set(cosines) == {"image.onnx", "text.onnx", "decoder.onnx"}
    assert min(cosines.values()) > 0.9999
    encoder = BuiltinEncoder(tmp_path, threads=1)
    ids = torch.from_numpy(encode_all(TOKENIZER, TEXTS[:1], SHAPE.context).astype(np.int64))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        np.testing.assert_allclose(encoder.encode_texts(TEXTS[:1]), both.text(ids).numpy(), atol=2e-3)
        expected = image(torch.from_numpy(pixels))[0].numpy()
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, atol=2e-3)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["recipe"] == "test"
    from training.builtin.rebuilt import Rebuilt

    again = Rebuilt(tmp_path)
    with torch.inference_mode():
        np.testing.assert_allclose(again.image(torch.from_numpy(pixels)).numpy(), expected, atol=2e-3)
        rows = again.text(torch.from_numpy(again.tokenize(TEXTS))).numpy()
    np.testing.assert_allclose(rows, encoder.encode_texts(TEXTS), atol=1e-4)
    (tmp_path / "again").mkdir()
    again.save(tmp_path / "again")
    np.testing.assert_allclose(
        BuiltinEncoder(tmp_path / "again", threads=1).encode_pixels(pixels),
        encoder.encode_pixels(pixels),
        atol=1e-4,
    )
    assert config["caption"]["tokens"] == list(VOCABULARY.tokens)
