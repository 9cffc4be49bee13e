"""Specs, the way to weights, `auto` and the list: all without a network."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encoders import (
    EncoderUnavailableError,
    UsageError,
    hub,
    list_encoders,
    load_encoder,
    published,
    ready_encoder,
    resolve_auto,
    sources,
)
from encoders.registry import RECOMMENDED
from encoders.specs import parse_spec
from tests.encoders.conftest import Tiny

ROOT = Path(__file__).resolve().parents[2]
CLIP = pytest.mark.skipif(not sources.installed(), reason="the [clip] extra is not installed")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any connection fails the test; the hub's cache is empty."""
    pytest.importorskip("huggingface_hub")
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("a network call"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("a network call"))


@pytest.mark.parametrize(
    ("typed", "text", "kind"),
    [
        ("builtin", "builtin", "builtin"),
        (" builtin ", "builtin", "builtin"),
        ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/laion2b_s34b_b79k", "tag"),
        ("ViT-B/32/OpenAI", "ViT-B-32/openai", "tag"),
        ("ViT-B-32@/w/a.safetensors", "ViT-B-32@/w/a.safetensors", "file"),
        ("/c/my.json@/w/a@b.safetensors", "/c/my.json@/w/a@b.safetensors", "file"),
        ("hf-hub:org/name", "hf-hub:org/name", "hub"),
        ("local-dir:/m/../n", "local-dir:/n", "dir"),
    ],
)
def test_a_spec_is_read_into_one_spelling(typed: str, text: str, kind: str) -> None:
    parsed = parse_spec(typed)
    assert (parsed.text, parsed.kind) == (text, kind)
    assert parse_spec(parsed.text) == parsed


def test_a_relative_path_in_a_spec_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_spec("ViT-B-32@w.safetensors").text == f"ViT-B-32@{tmp_path}/w.safetensors"


@pytest.mark.parametrize(
    "typed", ["", "ViT-B-32", "/ViT", "ViT/", "./ViT-B-32/openai", "@x", "ViT-B-32@", "hf-hub:x"]
)
def test_what_is_no_spec_is_a_usage_error(typed: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_encoder(typed, cache_dir=tmp_path)


@CLIP
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("ViT-B32/openai", "close names: ViT-B-32,"),
        ("vit-b-32/openai", "close names: ViT-B-32,"),
        ("ViT-B-32/nope", "laion2b_s34b_b79k"),
        ("ViT-B-32@/nowhere/w.safetensors", "no such file: /nowhere/w.safetensors"),
        ("/nowhere/c.json@/nowhere/w.safetensors", "no such file: /nowhere/c.json"),
        ("local-dir:/nowhere", "no open_clip_config.json in /nowhere"),
        (
            "ViT-B-32/laion2b_s34b_b79k",
            "fetch open_clip_model.safetensors of the hub repository laion/CLIP-ViT-B-32-laion2B-s34B-b79K "
            "elsewhere and use ViT-B-32@/path/open_clip_model.safetensors",
        ),
        ("ViT-B-32/openai", "use ViT-B-32-quickgelu@/path/"),
        ("ViT-B-32-SigLIP2-256/webli", "with its tokenizer.json and tokenizer_config.json beside it"),
        ("hf-hub:org/name", "use local-dir:FOLDER"),
    ],
)
def test_an_encoder_that_is_not_here_says_what_to_do(spec: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError) as caught:
        load_encoder(spec, cache_dir=tmp_path, offline=True)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@CLIP
@pytest.mark.parametrize(
    "spec", ["ViT-B-32/laion2b_s34b_b79k", "ViT-B-32-SigLIP2-256/webli", "hf-hub:org/name"]
)
def test_without_network_a_named_encoder_ends_in_seconds_without_torch(spec: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import encoders\n"
        "try: encoders.load_encoder(sys.argv[1], cache_dir=Path(sys.argv[2]))\n"
        "except encoders.EncoderUnavailableError as error: print('torch' in sys.modules, error)"
    )
    environ = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    start = time.monotonic()
    command = [sys.executable, "-c", code, spec, str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 5
    assert done.stdout.startswith("False encoder ")
    assert "HF_HUB_OFFLINE is set" in done.stdout


@CLIP
def test_a_name_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)

    def hang(*arguments: Any, **settings: Any) -> None:
        time.sleep(2)
        raise OSError("at last")

    monkeypatch.setattr(socket, "create_connection", hang)
    start = time.monotonic()
    with pytest.raises(EncoderUnavailableError, match="did not answer"):
        load_encoder("ViT-B-32/laion2b_s34b_b79k", cache_dir=tmp_path)
    assert time.monotonic() - start < 1.5


@CLIP
def test_the_probe_goes_to_the_endpoint_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    asked: list[Any] = []

    def refuse(address: Any, timeout: float) -> None:
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.test:8080")
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert hub.hub_reachable() == "mirror.test cannot be reached (Connection refused)"
    assert asked == [("mirror.test", 8080)]


@CLIP
def test_a_pickle_of_a_known_tag_is_refused_before_it_is_fetched(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sources, "tag_config", lambda spec: {"url": "https://example.test/a/w.pt", "hf_hub": ""}
    )
    with pytest.raises(Exception, match=r"w\.pt is a pickle"):
        load_encoder("ViT-B-32/laion2b_e16", cache_dir=tmp_path)


@pytest.mark.usefixtures("no_network")
def test_cached_hub_weights_are_used_without_a_network_call(
    tiny: Callable[..., Tiny], tmp_path: Path, clip_cache: Path
) -> None:
    model = tiny("vit")
    snapshot = (
        tmp_path / "hub" / "models--org--tiny" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    )
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(snapshot.name)
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (snapshot / name).write_bytes((model.folder / name).read_bytes())
    encoder = load_encoder("hf-hub:org/tiny", cache_dir=clip_cache)
    assert encoder.fingerprint == load_encoder(model.spec, cache_dir=clip_cache).fingerprint
    (snapshot.parent.parent / "refs" / "main").write_text("f" * 40)  # the hub moved on
    again = load_encoder("hf-hub:org/tiny", cache_dir=clip_cache)
    assert again.fingerprint == encoder.fingerprint


@CLIP
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("tag", "model"),
    [
        ("ViT-B-32-SigLIP2-256/webli", "ViT-B-32-SigLIP2-256"),
        ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32"),
        ("ViT-B-32/openai", "ViT-B-32-quickgelu"),
        ("MobileCLIP2-S0/dfndr2b", "MobileCLIP2-S0"),
    ],
)
def test_local_weights_get_the_configuration_of_their_tag(tag: str, model: str, tmp_path: Path) -> None:
    location = published.hub_location(published.tag_config(parse_spec(tag)))
    assert location is not None
    snapshot = tmp_path / "hub" / f"models--{location[0].replace('/', '--')}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(snapshot.name)
    (snapshot / "open_clip_model.safetensors").write_bytes(b"")
    by_tag = sources.resolve(parse_spec(tag))
    by_file = sources.resolve(parse_spec(f"{model}@{by_tag.weights}"))
    assert by_tag.model_cfg == by_file.model_cfg
    keys = ("mean", "std", "interpolation", "resize_mode")
    default = {"mean": by_tag.preprocess_cfg["mean"], "std": by_tag.preprocess_cfg["std"]}
    default |= {"interpolation": "bicubic", "resize_mode": "shortest"}
    used = {**default, **by_file.preprocess_cfg}
    assert [by_tag.preprocess_cfg[key] for key in keys] == [used[key] for key in keys]


def test_a_siglip_without_its_tokenizer_says_where_to_put_it(
    tiny: Callable[..., Tiny], no_network: None, tmp_path: Path
) -> None:
    model = tiny("siglip").copy(tmp_path / "model")
    (model.folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderUnavailableError, match=r"put tokenizer\.json and tokenizer_config\.json"):
        load_encoder(model.spec, cache_dir=tmp_path / "cache", offline=True)


def test_the_table_read_without_torch_is_open_clips(open_clip: Any) -> None:
    assert published.pretrained_table() == open_clip.pretrained._PRETRAINED
    assert set(published.model_names()) <= set(open_clip.list_models())


def test_without_the_extra_a_named_encoder_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "installed", lambda: False)
    with pytest.raises(EncoderUnavailableError, match=r'pip install "pixseek\[clip\]"'):
        load_encoder("ViT-B-32/openai", cache_dir=tmp_path)


def test_auto_is_builtin_with_one_line_when_the_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "installed", lambda: False)
    choice = resolve_auto(cache_dir=tmp_path)
    assert choice.spec == "builtin"
    assert choice.notice is not None
    assert "pip install" in choice.notice
    assert "\n" not in choice.notice


@CLIP
@pytest.mark.usefixtures("no_network")
def test_auto_makes_no_network_call_when_offline(tmp_path: Path) -> None:
    choice = resolve_auto(cache_dir=tmp_path, offline=True)
    assert choice.spec == "builtin"
    assert "offline mode is on" in str(choice.notice)
    assert RECOMMENDED in str(choice.notice)


@CLIP
@pytest.mark.usefixtures("no_network")
def test_auto_is_the_recommended_encoder_when_its_weights_are_here_or_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hub_reachable", lambda: None)
    assert resolve_auto(cache_dir=tmp_path).spec == RECOMMENDED
    monkeypatch.setattr(hub, "hub_reachable", lambda: "no route")
    assert resolve_auto(cache_dir=tmp_path).spec == "builtin"
    monkeypatch.setattr(hub, "cached_file", lambda repo, names: Path("/somewhere"))
    choice = resolve_auto(cache_dir=tmp_path, offline=True)
    assert (choice.spec, choice.notice) == (RECOMMENDED, None)


def test_the_list_names_builtin_first_and_what_was_used_here(
    tiny: Callable[..., Tiny], clip_cache: Path, no_network: None
) -> None:
    model = tiny("vit")
    load_encoder(model.spec, cache_dir=clip_cache)
    infos = list_encoders(cache_dir=clip_cache)
    assert (infos[0].spec, infos[0].cached, infos[0].exported) == ("builtin", True, True)
    named = {info.spec: info for info in infos}
    assert not named[RECOMMENDED].cached
    mine = named[model.spec]
    assert (mine.cached, mine.exported, mine.dim) == (True, True, 32)
    assert mine.size_bytes == model.weights.stat().st_size


def test_importing_the_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, encoders\n"
        "print([n for n in ('torch', 'open_clip', 'transformers', 'onnxruntime', 'tokenizers', 'ftfy',"
        " 'huggingface_hub') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_ready_is_what_would_be_loaded(tmp_path: Path) -> None:
    ready, loaded = ready_encoder("builtin", cache_dir=tmp_path), load_encoder("builtin", cache_dir=tmp_path)
    assert ready is not None
    assert (ready.spec, ready.fingerprint) == (loaded.spec, loaded.fingerprint)
    for spec in ("auto", "ViT-B-32/openai", "no such spec", f"local-dir:{tmp_path}"):
        assert ready_encoder(spec, cache_dir=tmp_path) is None
