"""Pre-training: gradients, repeatable runs, kills, checkpoints of others, and what came of the data."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import EncoderError, Preprocess, UsageError
from tests.conftest import ROOT
from tests.training.squares import CLIP, COCA, draw_squares, table, write_recipe
from tests.training.writing import picture_bytes, write_tar
from training.pretraining.recipes import OpenClipRecipe, parse_recipe

torch = pytest.importorskip("torch", reason="the [train] extra is not installed")
pytest.importorskip("open_clip", reason="the [clip] extra is not installed")

from training.pretraining.architecture import build  # noqa: E402
from training.pretraining.batches import Batches, augmented  # noqa: E402
from training.pretraining.checkpoint import checkpoint_of  # noqa: E402
from training.pretraining.log import TrainingLog, read_log  # noqa: E402
from training.pretraining.objective import Inputs, Learner, Objective  # noqa: E402
from training.pretraining.pack import open_pack, split  # noqa: E402
from training.pretraining.pretrain import pretrain_model  # noqa: E402
from training.pretraining.progress import EpochEnd, Stage, Trained  # noqa: E402
from training.pretraining.teaching import read_lines  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_squares(tmp_path_factory.mktemp("squares"), each=2)


def recipe_of(data: Path, out: Path, /, **changes: Any) -> OpenClipRecipe:
    recipe = parse_recipe(table(data, out, **changes), base=out.parent)
    assert isinstance(recipe, OpenClipRecipe)
    return recipe


def train(data: Path, out: Path, /, stop_at: int = 0, changed: bool = False, **changes: Any) -> Trained:
    """Train to the end, or until a wish to stop at a step."""
    stop = threading.Event()

    def report(stage: Stage) -> None:
        if stop_at and stage.what == "training" and stage.done == stop_at:
            stop.set()

    return pretrain_model(
        recipe_of(data, out, **changes),
        cache_dir=out.parent / "cache",
        stop=stop,
        report=report,
        changed=changed,
    )


def weights(out: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(out / "open_clip_model.safetensors"))


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def curve(out: Path) -> list[tuple[str, str]]:
    return [(row["step"], row["loss"]) for row in read_log(out / "log.csv")]


# --- losses and gradients


def inputs(**more: Any) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(8, 16, dtype=torch.int64)
    ids[:, 0], ids[:, 1], ids[:, 2] = 49406, torch.arange(8) + 300, 49407
    ids[::2, 2], ids[::2, 3] = 500, 49407  # sentences of two lengths
    return Inputs(torch.randn(8, 3, 16, 16, generator=generator), ids, (0, 0, 0), **more)


def objective_of(
    tmp_path: Path, loss: str, config: dict[str, Any], /, teacher_dim: int | None = None, **more: Any
) -> Objective:
    recipe = recipe_of(tmp_path, tmp_path / "out", loss=loss, model_cfg=config, **more)
    learner = Learner(build(recipe), teacher_dim)
    return Objective(recipe, learner, autocast=torch.autocast("cpu", torch.bfloat16, enabled=False))


def taught(dim: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(3, 8, dim, generator=generator), dim=-1)
    return {
        "taught_images": rows[0],
        "taught_texts": rows[1],
        "taught_lines": rows[2],
        "line_ids": inputs().ids,
    }


CASES = {
    "clip": (CLIP, ("visual.", "transformer.", "token_embedding.", "logit_scale"), {}),
    "siglip": (CLIP, ("visual.", "transformer.", "token_embedding.", "logit_scale", "logit_bias"), {}),
    "coca": (COCA, ("visual.", "text.", "text_decoder.", "logit_scale"), {}),
    "distill": (CLIP, ("visual.", "transformer.", "token_embedding."), {"teacher": {"encoder": "builtin"}}),
}


@pytest.mark.parametrize("loss", CASES)
def test_gradients_flow_to_each_tower(tmp_path: Path, loss: str) -> None:
    config, towers, more = CASES[loss]
    objective = objective_of(tmp_path, loss, config, 24 if more else None, **more)
    parts = objective.backward(inputs(**(taught(24) if more else {})))
    assert tuple(parts) == objective.parts
    assert all(np.isfinite(value) and value > 0 for value in parts.values())
    for tower in towers:
        gradients = [
            parameter.grad
            for name, parameter in objective.learner.model.named_parameters()
            if name.startswith(tower) and parameter.grad is not None
        ]
        assert gradients, tower
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0, tower
    if objective.learner.bridge is not None:
        assert float(objective.learner.bridge.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("loss", CASES)
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(tmp_path: Path, loss: str) -> None:
    config, _, more = CASES[loss]
    gradients, parts = [], []
    for accumulate in (1, 3):
        objective = objective_of(tmp_path, loss, config, 24 if more else None, accumulate=accumulate, **more)
        parts.append(objective.backward(inputs(**(taught(24) if more else {}))))
        gradients.append(
            {name: p.grad for name, p in objective.learner.named_parameters() if p.grad is not None}
        )
    assert parts[0] == pytest.approx(parts[1], rel=1e-4)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_the_losses_are_those_of_open_clip(tmp_path: Path) -> None:
    from open_clip.loss import CoCaLoss

    objective = objective_of(tmp_path, "coca", COCA, caption_weight=3.0, contrastive_weight=0.5)
    batch = inputs()
    parts = objective.backward(batch)
    out = objective.learner.model(batch.pixels, batch.ids)
    reference = CoCaLoss(caption_loss_weight=3.0, clip_loss_weight=0.5)
    contrastive, caption = reference(**out)
    assert parts["contrastive"] == pytest.approx(contrastive.item(), rel=1e-5)
    assert parts["caption"] == pytest.approx(caption.item(), rel=1e-5)


def test_a_caption_loss_needs_a_decoder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a model with a caption decoder"):
        build(recipe_of(tmp_path, tmp_path / "out", loss="coca"))


def test_an_unknown_model_is_answered_with_close_names(tmp_path: Path) -> None:
    recipe = table(tmp_path, tmp_path / "out", model="ViT-B-23")
    del recipe["model_cfg"]
    wrong = parse_recipe(recipe, base=tmp_path)
    assert isinstance(wrong, OpenClipRecipe)
    with pytest.raises(UsageError, match="no model named 'ViT-B-23'; close names: ViT-B-"):
        build(wrong)


def test_first_weights_come_from_a_file_that_fits(tmp_path: Path, squares: Path) -> None:
    train(squares, tmp_path / "first", epochs=1)
    init = str(tmp_path / "first" / "open_clip_model.safetensors")
    model = build(recipe_of(squares, tmp_path / "second", init=init, seed=5)).model
    assert all(
        torch.equal(value, model.state_dict()[name]) for name, value in weights(tmp_path / "first").items()
    )
    with pytest.raises(EncoderError, match="do not fit the model"):
        build(recipe_of(squares, tmp_path / "second", init=init, model_cfg=CLIP | {"embed_dim": 8}))
    (tmp_path / "w.pt").touch()
    with pytest.raises(UsageError, match=r"not a \.safetensors file"):
        build(recipe_of(squares, tmp_path / "second", init=str(tmp_path / "w.pt")))


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        ("siglip", {}),
        ("coca", {"model_cfg": COCA, "accumulate": 2, "precision": "bf16"}),
        ("distill", {"teacher": {"encoder": "builtin"}, "precision": "bf16"}),
    ],
)
def test_each_loss_trains_and_leaves_an_encoder(
    tmp_path: Path, squares: Path, loss: str, more: dict[str, Any]
) -> None:
    trained = train(squares, tmp_path / "out", loss=loss, epochs=1, **more)
    assert trained.steps > 0
    assert all(bool(torch.isfinite(value).all()) for value in weights(tmp_path / "out").values())
    settings = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert settings["model_cfg"].get("init_logit_bias") == (-10 if loss == "siglip" else None)
    (first, *_) = read_log(tmp_path / "out" / "log.csv")
    assert all(float(value) > 0 for name, value in first.items() if name.startswith("loss"))


# --- the same again


def test_a_fixed_seed_gives_the_same_curve_and_weights_another_seed_others(
    tmp_path: Path, squares: Path
) -> None:
    for out in ("one", "two"):
        train(squares, tmp_path / out)
    train(squares, tmp_path / "other", seed=1)
    assert len(curve(tmp_path / "one")) == 4
    assert curve(tmp_path / "one") == curve(tmp_path / "two")
    assert same_weights(tmp_path / "one", tmp_path / "two")
    assert curve(tmp_path / "one") != curve(tmp_path / "other")


def test_a_run_that_was_stopped_again_and_again_ends_as_an_unbroken_one(
    tmp_path: Path, squares: Path
) -> None:
    train(squares, tmp_path / "unbroken")
    for step in (1, 2, 3):  # in mid epoch, at its end, in the next
        stopped = train(squares, tmp_path / "broken", stop_at=step)
        assert stopped.stopped
        assert stopped.steps == step
        assert not (tmp_path / "broken" / "open_clip_config.json").exists()
    assert not train(squares, tmp_path / "broken").stopped
    assert same_weights(tmp_path / "unbroken", tmp_path / "broken")
    assert curve(tmp_path / "unbroken") == curve(tmp_path / "broken")


_KILLED_AT = """
import os, signal, sys
from pathlib import Path
from training.pretraining.pretrain import pretrain_model
from training.pretraining.recipes import load_recipe

def report(stage):
    if stage.what == "training" and stage.done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

pretrain_model(load_recipe(Path(sys.argv[1])), cache_dir=Path(sys.argv[1]).parent / "cache", report=report)
"""


def test_a_run_killed_in_mid_epoch_ends_as_an_unbroken_one(tmp_path: Path, squares: Path) -> None:
    more = {"batch": 4, "checkpoint_every": 2, "epochs": 2}
    train(squares, tmp_path / "unbroken", **more)
    recipe = write_recipe(tmp_path / "r.toml", table(squares, tmp_path / "killed", **more))
    call = [sys.executable, "-c", _KILLED_AT, str(recipe), "3"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, check=False, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    # Step 3 is in the log, the checkpoint is of step 2: it is taken again, and is there once.
    assert train(squares, tmp_path / "killed", **more).steps == 8
    assert same_weights(tmp_path / "unbroken", tmp_path / "killed")
    assert curve(tmp_path / "unbroken") == curve(tmp_path / "killed")


def test_a_finished_training_is_not_done_again(tmp_path: Path, squares: Path) -> None:
    first = train(squares, tmp_path / "out")
    before = (tmp_path / "out" / "open_clip_model.safetensors").stat().st_mtime_ns
    again = train(squares, tmp_path / "out")
    assert (first.already, again.already) == (False, True)
    assert again.recall == first.recall
    assert (tmp_path / "out" / "open_clip_model.safetensors").stat().st_mtime_ns == before


# --- checkpoints that must not be touched


def test_a_checkpoint_of_another_recipe_is_refused_by_key_and_kept(tmp_path: Path, squares: Path) -> None:
    train(squares, tmp_path / "out", stop_at=1)
    checkpoint = checkpoint_of(tmp_path / "out")
    before = checkpoint.read_bytes()
    with pytest.raises(EncoderError, match=r"batch \(was 8, is 6\); set another out"):
        train(squares, tmp_path / "out", batch=6)
    wider = CLIP | {"embed_dim": 24}
    with pytest.raises(EncoderError, match=r"model_cfg\.embed_dim \(was 16, is 24\)"):
        train(squares, tmp_path / "out", model_cfg=wider, changed=True)
    with pytest.raises(EncoderError, match=r"epochs \(was 2, is 3\); go on all the same with --changed"):
        train(squares, tmp_path / "out", epochs=3)
    assert checkpoint.read_bytes() == before
    assert train(squares, tmp_path / "out", epochs=3, changed=True).epochs == 3


def test_a_checkpoint_of_other_pictures_is_refused(tmp_path: Path) -> None:
    data = draw_squares(tmp_path / "data", each=1)
    train(data, tmp_path / "out", stop_at=1)
    (data / "red-0.txt").write_text("a scarlet square\n")
    with pytest.raises(EncoderError, match="the pictures or captions themselves"):
        train(data, tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 5, 5000])
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path, squares: Path, cut: int) -> None:
    train(squares, tmp_path / "out", stop_at=1)
    checkpoint = checkpoint_of(tmp_path / "out")
    checkpoint.write_bytes(checkpoint.read_bytes()[:cut])
    with pytest.raises(EncoderError, match="damaged; it was left as it is"):
        train(squares, tmp_path / "out")
    assert checkpoint.stat().st_size == cut


def test_an_encoder_that_is_already_there_is_not_replaced(tmp_path: Path, squares: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "open_clip_config.json").write_text("{}")
    with pytest.raises(EncoderError, match="already holds an encoder; set another out"):
        train(squares, tmp_path / "out")


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, squares: Path) -> None:
    from training.pretraining.checkpoint import hold

    with hold(tmp_path / "out"), pytest.raises(EncoderError, match="another pixseek train is writing"):
        train(squares, tmp_path / "out")


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(squares, tmp_path / "out", stop_at=1)
    before = checkpoint_of(tmp_path / "out").read_bytes()
    real = Objective.losses

    def spoiled(self: Objective, features: Any, batch: Any) -> Any:
        return {name: loss * float("nan") for name, loss in real(self, features, batch).items()}

    monkeypatch.setattr(Objective, "losses", spoiled)
    with pytest.raises(
        EncoderError, match=r"the loss is nan at step 2 \(epoch 1\); .* lower rates .*--changed"
    ):
        train(squares, tmp_path / "out")
    assert checkpoint_of(tmp_path / "out").read_bytes() == before
    monkeypatch.undo()
    lower = {"image": 1e-4, "text": 1e-4}
    assert train(squares, tmp_path / "out", rates=lower, changed=True).epochs == 2


def test_rates_that_are_far_too_high_end_in_one_line_and_finite_weights(
    tmp_path: Path, squares: Path
) -> None:
    high = {"image": 1e30, "text": 1e30, "rest": 1e30}
    with pytest.raises(EncoderError, match="lower rates"):
        train(squares, tmp_path / "out", rates=high, clip_norm=1e30, warmup=0, checkpoint_every=1)
    if checkpoint_of(tmp_path / "out").exists():
        from safetensors.torch import load_file

        assert all(bool(torch.isfinite(v).all()) for v in load_file(checkpoint_of(tmp_path / "out")).values())


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from training import run as running

    train(squares, tmp_path / "out", stop_at=1)
    before = checkpoint_of(tmp_path / "out").read_bytes()

    def full(tensors: Any, path: Path, meta: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(running, "save_file", full)
        with pytest.raises(EncoderError, match=r"checkpoint\.part: I/O error: No space left .* run the same"):
            train(squares, tmp_path / "out")
    assert checkpoint_of(tmp_path / "out").read_bytes() == before
    assert not list((tmp_path / "out").rglob("*.part"))
    train(squares, tmp_path / "unbroken")
    train(squares, tmp_path / "out")
    assert same_weights(tmp_path / "unbroken", tmp_path / "out")


# --- the data


def test_what_cannot_be_learned_from_is_said_in_one_line(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.mkdir()
    (silent / "a.png").write_bytes(picture_bytes())
    with pytest.raises(UsageError, match=r"data\[0\]\.source: no captions"):
        train(silent, tmp_path / "out")
    labelled = tmp_path / "labelled"
    for name in ("cat", "dog"):
        (labelled / name).mkdir(parents=True)
        (labelled / name / "a.png").write_bytes(picture_bytes("red" if name == "cat" else "blue"))
    with pytest.raises(UsageError, match="labels and no captions; add templates"):
        train(labelled, tmp_path / "out")
    members = {
        f"{n}.{kind}": picture_bytes() if kind == "png" else {"captions": ["x"]}
        for n in range(9)
        for kind in ("png", "json")
    }
    cut = write_tar(tmp_path / "cut.tar", members)
    cut.write_bytes(cut.read_bytes()[:6000])
    with pytest.raises(UsageError, match=r"data\[0\]\.source: .*cut short"):
        train(cut, tmp_path / "out")
    assert not checkpoint_of(tmp_path / "out").exists()


def test_labels_become_sentences_and_meet_others_in_a_batch(tmp_path: Path) -> None:
    for name in ("cat", "hot_dog", "bird"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((8, 8, 3), len(name) * 20 + number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    source = {"source": str(tmp_path / "data"), "templates": ["a photo of a {}", "{}"]}
    recipe = recipe_of(tmp_path / "data", tmp_path / "out", data=[source])
    pack = open_pack(recipe, 16, tmp_path / "work", report=lambda done: None)
    assert {text for p in pack.pictures for text in p.texts} >= {"a photo of a hot dog", "hot dog", "cat"}
    batches = Batches(pack, range(12), [1.0] * 12, Preprocess(16), size=3, strength=0, seed=0, threads=1)
    for batch in batches.plan(0):
        assert sorted(pack.pictures[number].group for number, _ in batch) == ["bird", "cat", "hot_dog"]


def test_an_epoch_shows_every_picture_as_often_as_its_weight_says(tmp_path: Path, squares: Path) -> None:
    recipe = recipe_of(squares, tmp_path / "out")
    pack = open_pack(recipe, 16, tmp_path / "work", report=lambda done: None)
    weights = [2.0] * 8 + [0.5] * 8
    batches = Batches(pack, range(16), weights, Preprocess(16), size=6, strength=0.5, seed=0, threads=2)
    for epoch in range(3):
        times = np.bincount([number for batch in batches.plan(epoch) for number, _ in batch], minlength=16)
        assert set(times[:8]) == {2}
        assert times[8:].sum() == 4
    assert batches.plan(0) != batches.plan(1)
    assert [len(batch) for batch in batches.plan(0)] == [5, 5, 5, 5]
    whole = list(batches.epoch(1))
    for step, batch in enumerate(batches.epoch(1, first=2), start=2):
        np.testing.assert_array_equal(batch.pixels, whole[step].pixels)
        assert batch.texts == whole[step].texts


def test_the_same_picture_is_never_on_both_sides(tmp_path: Path) -> None:
    data = draw_squares(tmp_path / "data", each=3)
    for file in sorted(data.glob("*-0.*")):
        (data / f"copy-of-{file.name}").write_bytes(file.read_bytes())
    recipe = recipe_of(data, tmp_path / "out")
    pack = open_pack(recipe, 16, tmp_path / "work", report=lambda done: None)
    for seed in range(5):
        trained, held = split(pack, fraction=0.3, seed=seed)
        assert len(trained) + len(held) == 32
        assert not {pack.pictures[n].sha for n in trained} & {pack.pictures[n].sha for n in held}
    own = recipe_of(data, tmp_path / "out", held_out={"source": str(draw_squares(tmp_path / "dev", each=1))})
    pack = open_pack(own, 16, tmp_path / "work", report=lambda done: None)
    trained, held = split(pack, fraction=0.3, seed=0)
    assert len(held) == 8


def test_pictures_are_read_once_and_again_when_they_change(tmp_path: Path) -> None:
    data = draw_squares(tmp_path / "data", each=1)
    recipe, seen = recipe_of(data, tmp_path / "out"), []
    first = open_pack(recipe, 16, tmp_path / "work", report=seen.append)
    assert seen == list(range(1, 9))
    second = open_pack(recipe, 16, tmp_path / "work", report=seen.append)
    assert len(seen) == 8
    assert second.digest == first.digest
    (data / "red-0.txt").write_text("a scarlet square\n")
    assert open_pack(recipe, 16, tmp_path / "work", report=seen.append).digest != first.digest
    assert len(seen) == 16


def test_a_result_inside_the_pictures_folder_is_no_change_of_it(tmp_path: Path) -> None:
    data, seen = draw_squares(tmp_path / "data", each=1), []
    recipe = recipe_of(data, data / "out")
    open_pack(recipe, 16, data / "out" / "training", report=seen.append)
    (data / "out" / "log.csv").write_text("step\n")
    open_pack(recipe, 16, data / "out" / "training", report=seen.append)
    assert len(seen) == 8


def test_copies_of_held_out_pictures_are_not_learned_and_that_is_said(tmp_path: Path) -> None:
    data, dev = draw_squares(tmp_path / "data", each=2), tmp_path / "dev"
    dev.mkdir()
    for name in ("red-0", "blue-1"):
        for suffix in ("png", "txt"):
            (dev / f"{name}.{suffix}").write_bytes((data / f"{name}.{suffix}").read_bytes())
    notes: list[str] = []
    recipe = recipe_of(data, tmp_path / "out", epochs=1, held_out={"source": str(dev)})
    trained = pretrain_model(recipe, cache_dir=tmp_path / "cache", tell=notes.append)
    assert (trained.pictures, trained.held_out) == (14, 2)
    assert notes == ["2 pictures are held-out ones too and were left out"]


def test_weights_that_leave_nothing_are_refused(tmp_path: Path, squares: Path) -> None:
    with pytest.raises(UsageError, match="fewer than two pictures in an epoch; raise them"):
        train(squares, tmp_path / "out", data=[{"source": str(squares), "weight": 0.01}])


def test_a_broken_picture_is_left_out_and_named(tmp_path: Path) -> None:
    data = draw_squares(tmp_path / "data", each=1)
    (data / "red-0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    notes: list[str] = []
    recipe = recipe_of(data, tmp_path / "out", epochs=1)
    ends: list[EpochEnd] = []
    trained = pretrain_model(recipe, cache_dir=tmp_path / "cache", tell=notes.append, on_epoch=ends.append)
    assert trained.pictures + trained.held_out == 7
    assert [(end.epoch, end.epochs, end.left_s) for end in ends] == [(1, 1, 0)]
    assert any("red-0.png" in note for note in notes)


def test_augmentation_is_repeatable_and_keeps_colour_and_sides(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :30, 0], pixels[:, 30:, 2] = 200, 200  # red left, blue right
    image, preprocess = Image.fromarray(pixels), Preprocess(16)
    views = [
        augmented(image, preprocess, 0.5, np.random.default_rng(number), flip=False) for number in range(8)
    ]
    again = augmented(image, preprocess, 0.5, np.random.default_rng(3), flip=False)
    np.testing.assert_array_equal(views[3], again)
    assert not np.array_equal(views[3], views[4])
    left = [view[:, :3].mean((0, 1)) for view in views]
    assert sum(color[0] > color[2] for color in left) >= 6  # not mirrored
    for mode in ("squash", "longest"):
        squared = augmented(image, Preprocess(16, mode), 1.0, np.random.default_rng(0), flip=True)  # type: ignore[arg-type]
        assert squared.shape == (16, 16, 3)


def test_held_out_captions_are_taken_out_of_the_text_lines(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.txt").write_text("A red  square.\na dog\na dog\n\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a cat\n"))
    lines, removed = read_lines([tmp_path / "a.txt", tmp_path / "b.txt.gz"], leave_out=["a red square"])
    assert (lines, removed) == (["a dog", "a cat"], 1)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a cat\n" * 99)[:-9])
    with pytest.raises(UsageError, match=r"b\.txt\.gz: not lines of UTF-8 text"):
        read_lines([tmp_path / "b.txt.gz"])


def test_a_text_tower_learns_its_teachers_sentences_from_lines_alone(tmp_path: Path, squares: Path) -> None:
    (tmp_path / "lines.txt").write_text(
        "".join(f"a {w} in the {p}\n" for w in ("dog", "cat") for p in ("sea", "wood"))
    )
    teacher = {"encoder": "builtin", "texts": [str(tmp_path / "lines.txt")], "batch": 4}
    train(
        squares, tmp_path / "out", teacher=teacher, epochs=5, rates={"image": 0.0, "text": 5e-3, "rest": 5e-3}
    )
    rows = read_log(tmp_path / "out" / "log.csv")
    assert float(rows[-1]["loss_text"]) < 0.85 * float(rows[0]["loss_text"])
    before = build(recipe_of(squares, tmp_path / "out")).model.state_dict()
    after = weights(tmp_path / "out")
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("visual."))
    assert "bridge.weight" not in after


# --- the log


def test_the_log_reads_back_as_numbers_once_a_step(tmp_path: Path, squares: Path) -> None:
    trained = train(squares, tmp_path / "out", loss="coca", model_cfg=COCA, epochs=2)
    with (tmp_path / "out" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "step", "epoch", "loss", "loss_contrastive", "loss_caption", "rate", "pictures_per_s", "seconds",
        "recall_1", "recall_5", "recall_10",
    ]  # fmt: skip
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [int(row["epoch"]) for row in rows] == [1, 1, 2, 2]
    for row in rows:
        parts = float(row["loss_contrastive"]) + float(row["loss_caption"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-4)
        assert float(row["pictures_per_s"]) > 0
    assert [bool(row["recall_10"]) for row in rows] == [False, True, False, True]
    assert float(rows[-1]["recall_1"]) == pytest.approx(trained.recall[1], rel=1e-4)  # type: ignore[index]
    assert np.all(np.diff([float(row["seconds"]) for row in rows]) > 0)


def test_a_log_gone_on_with_drops_what_comes_after_and_a_cut_row(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv", ("clip",), step=0)
    for step in (1, 2, 3):
        log.row({"step": step, "epoch": 1, "loss": 1 / step, "seconds": float(step)})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4,1,0.2")
    again = TrainingLog(tmp_path / "log.csv", ("clip",), step=2)
    assert again.seconds == 2
    again.row({"step": 3, "epoch": 1, "loss": 0.5, "seconds": 2.5})
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path / "log.csv")] == [
        ("1", "1"), ("2", "0.5"), ("3", "0.5"),
    ]  # fmt: skip


def test_the_checkpoint_says_whose_it_is(tmp_path: Path, squares: Path) -> None:
    from safetensors import safe_open

    train(squares, tmp_path / "out", stop_at=1)
    with safe_open(checkpoint_of(tmp_path / "out"), "pt") as archive:
        meta = archive.metadata()
    assert json.loads(meta["recipe"])["epochs"] == 2
    assert (meta["step"], meta["epoch"]) == ("1", "0")
