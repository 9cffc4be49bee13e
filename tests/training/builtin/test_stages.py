"""Both stages at the smallest size: gradients, seeds, resuming, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'pixseek[train]'")

from training.builtin.backbone import MobileNetV2, SameConv  # noqa: E402
from training.builtin.contrast import Pairs, Towers, embed_ids, embed_maps, embed_rows, train_towers  # noqa: E402
from training.builtin.distil import TextData, by_length, initialise, train_text  # noqa: E402
from training.builtin.features import PictureSet  # noqa: E402
from training.builtin.losses import contrastive_loss, distillation_loss, structure_loss  # noqa: E402
from training.builtin.models import ImageHead, Shape, TextTower  # noqa: E402
from training.builtin.tokenizer import encode_all, train_tokenizer  # noqa: E402

torch.set_num_threads(1)  # small matrices: more threads only wait for one another
SHAPE = Shape(dim=16, vocab=60, context=12, width=16, layers=1, heads=2, hidden=16, channels=16, pool_heads=4)
TEXTS = [
    f"{color} {thing}" for color in ("red", "green", "blue", "old") for thing in ("dog", "car on a road")
]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def data() -> TextData:
    tokenizer = train_tokenizer(TEXTS, vocab=SHAPE.vocab, context=SHAPE.context)
    targets = unit(np.random.default_rng(0).normal(size=(len(TEXTS), SHAPE.dim))).astype(np.float16)
    return TextData.of(TEXTS, encode_all(tokenizer, TEXTS, SHAPE.context), targets)


@pytest.fixture
def pairs(data: TextData) -> Pairs:
    maps = np.random.default_rng(1).normal(size=(len(TEXTS), 320, 7, 7)).astype(np.float16)
    pictures = PictureSet("flickr8k", tuple((text, "a banned sentence") for text in TEXTS), (maps,))
    return Pairs.of([pictures], data)


def towers(seed: int = 0) -> Towers:
    torch.manual_seed(seed)
    return Towers(TextTower(SHAPE), ImageHead(SHAPE))


def test_towers_return_unit_rows_and_padding_changes_nothing() -> None:
    both = towers().eval()
    ids = torch.tensor([[2, 5, 6], [2, 7, 0]])
    rows = both.text(ids)
    assert rows.shape == (2, SHAPE.dim)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(both.text(torch.tensor([[2, 7, 0, 0, 0]]))[0], rows[1])
    assert both.head(torch.randn(3, 320, 7, 7)).shape == (3, SHAPE.dim)


def test_gradients_reach_every_parameter_of_both_towers(data: TextData) -> None:
    both = towers().train()
    images = both.head(torch.randn(len(TEXTS), 320, 7, 7))
    texts = embed_rows(both.text, data, np.arange(len(TEXTS)))
    same = torch.zeros(len(TEXTS), len(TEXTS), dtype=torch.bool)
    loss = contrastive_loss(images, texts, both.log_scale.exp(), same, torch.ones(len(TEXTS)))
    loss.backward()
    missing = [n for n, p in both.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # attend.bias shifts every position alike: the softmax takes it out again.
    assert set(missing) <= {"log_scale_teacher", "head.attend.bias"}


def test_attention_pooling_is_mean_plus_weighted_sum() -> None:
    head = ImageHead(SHAPE).eval()
    torch.nn.init.normal_(head.attend.weight)
    maps = torch.randn(2, 320, 7, 7)
    x = head.top(maps)
    weights = head.attend(x).flatten(2).softmax(-1)
    for n, c in ((0, 0), (1, 5), (1, 15)):
        channel = x[n, c].flatten()
        expected = channel.mean() + (channel * weights[n, c // 4]).sum()
        torch.testing.assert_close(head.pool(maps)[n, c], expected, rtol=1e-4, atol=1e-4)


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


def test_batches_of_like_length_cover_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 64)
    rows = np.concatenate(list(by_length(lengths, 8, np.random.default_rng(1))))
    assert sorted(rows) == list(range(64))


def test_a_caption_that_is_no_training_sentence_is_never_picked(pairs: Pairs, data: TextData) -> None:
    assert all(len(rows) == 1 for rows in pairs.rows[0])
    assert [TEXTS[row] for row in pairs.captions(np.arange(4), np.random.default_rng(0))] == TEXTS[:4]


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
        curve += train_towers(both, pairs, data, folder=tmp_path / run, epochs=2, batch=4, wide=2, seed=seed)
        curves.append(curve)
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_a_killed_run_ends_where_an_unbroken_one_does(tmp_path: Path, data: TextData, pairs: Pairs) -> None:
    whole, broken, again = towers(), towers(), towers(5)
    settings = {"batch": 4, "wide": 2, "rate": 1e-2, "text_rate": 1e-2}
    train_towers(whole, pairs, data, folder=tmp_path / "whole", epochs=3, **settings)
    stop = RuntimeError("killed")

    calls: list[int] = []

    class Killed(Pairs):
        def epoch(self, batch: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
            calls.append(batch)
            if len(calls) == 4:  # one call counts the steps, two epochs run, the third is cut off
                yield next(iter(Pairs.epoch(self, batch, rng)))
                raise stop
            yield from Pairs.epoch(self, batch, rng)

    cut = Killed(pairs.sets, pairs.index, pairs.rows, pairs.weights, pairs.groups)
    with pytest.raises(RuntimeError, match="killed"):
        train_towers(broken, cut, data, folder=tmp_path / "broken", epochs=3, **settings)
    curve = train_towers(again, pairs, data, folder=tmp_path / "broken", epochs=3, **settings)
    assert len(curve) == 1
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_training_separates_the_pictures(tmp_path: Path, data: TextData, pairs: Pairs) -> None:
    both = towers()
    train_towers(
        both,
        pairs,
        data,
        folder=tmp_path,
        epochs=60,
        batch=8,
        wide=2,
        rate=1e-2,
        text_rate=1e-2,
        top_rate=1e-2,
    )
    scores = embed_ids(both.text, data.ids) @ embed_maps(both.head, pairs.sets[0].views[0]).T
    assert (scores.argmax(1) == np.arange(len(TEXTS))).mean() >= 0.75


def tiny_backbone() -> MobileNetV2:
    """A backbone of the real layer plan with as few channels as will do."""
    torch.manual_seed(0)
    convs = [SameConv(torch.randn(4, 3, 3, 3) * 0.2, torch.zeros(4), 2, True)]
    convs.append(SameConv(torch.randn(4, 1, 3, 3) * 0.2, torch.zeros(4), 1, True))
    convs.append(SameConv(torch.randn(4, 4, 1, 1) * 0.2, torch.zeros(4), 1, False))
    for block in range(16):
        stride = 2 if block in (0, 3, 6, 13) else 1
        out = 320 if block == 15 else 4
        convs.append(SameConv(torch.randn(8, 4, 1, 1) * 0.3, torch.zeros(8), 1, True))
        convs.append(SameConv(torch.randn(8, 1, 3, 3) * 0.3, torch.zeros(8), stride, True))
        convs.append(SameConv(torch.randn(out, 8, 1, 1) * 0.3, torch.zeros(out), 1, False))
    return MobileNetV2(convs)


def test_exported_files_load_as_an_encoder_that_agrees_with_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="export needs onnx: pip install 'pixseek[train]'")
    from encoders.builtin import BuiltinEncoder
    from training.builtin.export import export_towers
    from training.builtin.features import PREPROCESS
    from training.builtin.models import ImageTower

    shape = Shape(dim=16, vocab=1200, width=16, layers=1, heads=2, hidden=16, channels=16, pool_heads=4)
    text, image = TextTower(shape).eval(), ImageTower(tiny_backbone(), ImageHead(shape)).eval()
    tokenizer = train_tokenizer(TEXTS, vocab=60, context=48)
    cosines = export_towers(
        image,
        text,
        tokenizer.to_str(),
        tmp_path,
        dim=16,
        context=48,
        preprocess=PREPROCESS,
        recipe="test",
    )
    assert min(cosines.values()) > 0.9999
    encoder = BuiltinEncoder(tmp_path, threads=1)
    ids = torch.from_numpy(encode_all(tokenizer, TEXTS[:1], 48).astype(np.int64))
    with torch.inference_mode():
        expected = text(ids).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[:1]), expected, atol=2e-3)
    assert json.loads((tmp_path / "config.json").read_text())["recipe"] == "test"
