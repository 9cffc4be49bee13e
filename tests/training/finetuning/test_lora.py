"""LoRA on the towers: it starts as nothing, reaches both towers, merges exactly, and survives a kill."""

# ruff: noqa: F811 (fixtures are named as they are imported)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import EncoderError, Trainable, UsageError, load_encoder, normalize
from tests.color import COLORS
from tests.encoders.conftest import clip_cache, cosines, open_clip, tiny  # noqa: F401 (fixtures)
from training.finetuning import linear
from training.finetuning.examples import HELD_OUT, LEARN, VALIDATE, Examples

torch = pytest.importorskip("torch", reason="the [train] extra is not installed")
pytest.importorskip("safetensors", reason="the [train] extra is not installed")

from training.finetuning.lora import LoRA, LowRank, contrast, targets  # noqa: E402
from training.finetuning.tuning import tune  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Small:
    """Two towers of one layer each: colours to vectors, numbers of words to vectors."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)

        class Image(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(3, 16)
                self.out = torch.nn.Linear(16, 16)

            def forward(self, pixels: Any) -> Any:
                return self.out(torch.tanh(self.layer(pixels.float().mean((1, 2)) / 64 - 2)))

        class Text(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words = torch.nn.Embedding(len(COLORS), 16)
                self.out = torch.nn.Linear(16, 16)

            def forward(self, ids: Any) -> Any:
                return self.out(self.words(ids).mean(1))

        self.image, self.text = Image().eval().requires_grad_(False), Text().eval().requires_grad_(False)
        self.scale = 20.0

    def tokenize(self, texts: Any) -> Any:
        names = list(COLORS)
        return np.array([[next(i for i, name in enumerate(names) if name in text)] for text in texts])

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def squares(each: int = 12) -> tuple[Examples, Any]:
    """Return examples of noisy squares of eight colours, and their pixels."""
    rng = np.random.default_rng(0)
    names = sorted(COLORS)
    truth = np.arange(8 * each) % 8
    pixels = np.stack([np.full((4, 4, 3), COLORS[names[i]]) for i in truth]) + rng.integers(
        -9, 10, (8 * each, 4, 4, 3)
    )
    part = np.where(np.arange(8 * each) < 16, HELD_OUT, np.where(np.arange(8 * each) < 32, VALIDATE, LEARN))
    examples = Examples(
        "labels",
        tuple(names),
        tuple((int(i),) for i in truth),
        part.astype(np.int8),
        np.arange(8 * each),
        (),
        np.zeros((8 * each, 1), np.float32),
        np.zeros((1, 8, 1), np.float32),
    )
    return examples, pixels.clip(0, 255).astype(np.uint8)


def run(work: Path, **options: Any) -> Any:
    work.mkdir(exist_ok=True)
    towers, (examples, pixels) = Small(), squares()
    settings: dict[str, Any] = {"epochs": 4, "rank": 2, "alpha": 8.0, "seed": 0} | options
    step = settings.pop("step", lambda total, done: None)
    identity = {key: settings[key] for key in ("epochs", "rank", "alpha", "seed")}
    return tune(
        towers, examples, pixels, work, identity=identity, step=step, device="cpu", **settings
    ), towers


# --- the changes


def test_a_change_starts_as_nothing_and_has_its_rank() -> None:
    change = LowRank((12, 5), blocks=3, rank=2, alpha=4.0, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(12, 5)
    assert torch.equal(change(weight), weight)
    with torch.no_grad():
        change.b.normal_()
    added = (change(weight) - weight).detach()
    for block in range(3):  # queries, keys and values apart
        expected = 2.0 * change.b[block] @ change.a[block]
        torch.testing.assert_close(added[4 * block : 4 * block + 4], expected.detach(), atol=1e-5, rtol=1e-4)
        assert torch.linalg.matrix_rank(added[4 * block : 4 * block + 4], atol=1e-4) == 2
    assert torch.linalg.matrix_rank(added, atol=1e-4) > 2


@pytest.mark.parametrize("name", ["vit", "siglip", "coca", "resnet"])
def test_wrapped_and_merged_are_the_same_encoder(tiny: Any, name: str, tmp_path: Path) -> None:
    towers = Trainable(f"local-dir:{tiny(name).folder}", cache_dir=tmp_path)
    size = towers._built.preprocess.size
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8))
    ids = torch.from_numpy(towers.tokenize(["a dog", "two red cars on a beach", ""]))
    names = list(towers._built.model.state_dict())
    with torch.no_grad():
        plain = [towers.image(pixels).numpy(), towers.text(ids).numpy()]
        lora = LoRA([towers.image, towers.text], rank=4, alpha=8, seed=0)
        for before, after in zip(plain, (towers.image(pixels), towers.text(ids)), strict=True):
            np.testing.assert_allclose(after.numpy(), before, atol=1e-5)
    loss = contrast(towers.image(pixels), towers.text(ids), torch.eye(3) > 0, torch.arange(3), towers.scale)
    loss.backward()
    reached = {
        tower: any(
            change.b.grad is not None and change.b.grad.abs().max() > 0
            for change, target in zip(lora.changes, lora._targets, strict=True)
            if any(target.module is module for module in getattr(towers, tower).modules())
        )
        for tower in ("image", "text")
    }
    assert reached == {"image": True, "text": True}
    with torch.no_grad():
        for change in lora.changes:
            change.b.normal_(std=0.1)
        wrapped = [towers.image(pixels).numpy(), towers.text(ids).numpy()]
        lora.merge()
        merged = [towers.image(pixels).numpy(), towers.text(ids).numpy()]
    assert sorted(towers._built.model.state_dict()) == sorted(names)
    for a, b, c in zip(wrapped, merged, plain, strict=True):
        assert cosines(a, b).min() >= 0.99999
        assert cosines(a, c).min() < 0.9999  # the changes do something


def test_what_was_saved_is_loaded_as_the_same_encoder(
    tiny: Any,
    clip_cache: Path,
    tmp_path: Path,
) -> None:
    towers = Trainable(f"local-dir:{tiny('siglip').folder}", cache_dir=tmp_path)
    lora = LoRA([towers.image, towers.text], rank=2, alpha=4, seed=0)
    with torch.no_grad():
        for change in lora.changes:
            change.b.normal_(std=0.1)
    lora.merge()
    (tmp_path / "out").mkdir()
    towers.save(tmp_path / "out")
    loaded = load_encoder(f"local-dir:{tmp_path / 'out'}", cache_dir=clip_cache, runtime="torch")
    with torch.no_grad():
        expected = normalize(towers.text(torch.from_numpy(towers.tokenize(["a dog"]))).numpy())
    np.testing.assert_allclose(loaded.encode_texts(["a dog"]), expected, atol=1e-5)
    assert loaded.preprocess == towers._built.preprocess


def test_attention_projections_are_among_the_targets(tiny: Any, tmp_path: Path) -> None:
    towers = Trainable(f"local-dir:{tiny('vit').folder}", cache_dir=tmp_path)
    found = [(target.name, target.blocks) for target in targets(towers.image)]
    assert found.count(("in_proj_weight", 3)) == 4  # two blocks of each tower: the model holds both
    assert ("proj", 1) in found
    assert ("text_projection", 1) in found


def test_an_adapter_and_the_built_in_encoder_have_no_towers_to_train(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no open_clip model"):
        Trainable("builtin", cache_dir=tmp_path)


def test_the_loss_is_the_one_of_the_linear_adapter() -> None:
    rng = np.random.default_rng(0)
    images, texts = (normalize(rng.standard_normal((k, 6))) for k in (9, 5))
    drawn = rng.integers(0, 5, 9)
    right = rng.random((9, 5)) < 0.3
    right[np.arange(9), drawn] = True
    right[0] = True
    eye = np.eye(6, dtype=np.float32)
    expected = linear.contrast(linear.Batch(images, texts, right, drawn), eye, eye, 7.0).loss
    got = contrast(*map(torch.from_numpy, (images, texts, right, drawn)), 7.0)
    assert float(got) == pytest.approx(expected, rel=1e-5)


# --- the run


def test_squares_are_learned_and_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, towers = run(tmp_path / "a")
    again, same = run(tmp_path / "b")
    assert first.validation[-1] < first.validation[0]
    assert first.epochs > 0
    assert (first.losses, first.validation) == (again.losses, again.validation)
    for a, b in zip(towers.image.parameters(), same.image.parameters(), strict=True):
        assert torch.equal(a, b)
    other, _ = run(tmp_path / "c", seed=1)
    assert other.losses != first.losses


def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole, towers = run(tmp_path / "a")

    def kill(total: int, done: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", step=kill)
    seen: list[int] = []
    rest, same = run(tmp_path / "b", step=lambda total, done: seen.append(done))
    assert seen[0] > 0  # not from the start
    assert rest.losses == pytest.approx(whole.losses, rel=1e-6)
    for a, b in zip(towers.text.parameters(), same.text.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_an_unfinished_run_with_other_settings_is_kept_and_named(tmp_path: Path) -> None:
    def kill(total: int, done: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", step=kill)
    kept = (tmp_path / "a" / "run.safetensors").read_bytes()
    with pytest.raises(EncoderError, match="unfinished run with another rank") as caught:
        run(tmp_path / "a", rank=3)
    assert str(tmp_path / "a") in str(caught.value)
    assert (tmp_path / "a" / "run.safetensors").read_bytes() == kept
    (tmp_path / "a" / "run.safetensors").write_bytes(kept[: len(kept) // 2])
    with pytest.raises(EncoderError, match="cannot be continued"):
        run(tmp_path / "a")


def test_a_finished_run_gives_way_to_one_with_other_settings(tmp_path: Path) -> None:
    run(tmp_path / "a", epochs=1)
    assert len(run(tmp_path / "a", epochs=2)[0].losses) == 2


def test_a_loss_that_is_not_a_number_ends_with_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("training.finetuning.tuning.contrast", lambda *a: contrast(*a) * float("nan"))
    with pytest.raises(EncoderError, match=r"gradient is nan at step 1, in epoch 1.*--alpha") as caught:
        run(tmp_path / "a")
    assert "\n" not in str(caught.value)
