"""What a spec means: `load_encoder`, `resolve_auto`, `list_encoders`. Light to import.

The way of a named encoder: what the cache remembers of the spec (its fingerprint, while its files stay as
they were) leads to `onnx/<fingerprint>/`, and neither torch nor open_clip is imported. Only a spec that was
never used, or whose files changed, goes the long way: find the weights, build the model, export it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from encoders import hub, published, sources
from encoders.adapter import is_adapter, read_adapter
from encoders.base import Encoder
from encoders.builtin import BuiltinEncoder, builtin_folder, is_builtin_folder
from encoders.errors import (
    EncoderDamagedError,
    EncoderError,
    EncoderUnavailableError,
    RuntimeUnavailableError,
    UsageError,
)
from encoders.onnx_runtime import CONFIG, OnnxEncoder
from encoders.specs import Runtime, Spec, parse_spec
from encoders.store import Store, identity, read_json

if TYPE_CHECKING:
    from encoders.openclip import TorchModel
    from encoders.runtimes import Runtimes
    from encoders.torch_runtime import TorchEncoder

RECOMMENDED = "ViT-B-32-SigLIP2-256/webli"
"""What `auto` wants. docs/encoders.md gives the numbers it was chosen by."""


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """What `auto` means on this machine today.

    Attributes:
        spec: a spec for `load_encoder`.
        notice: one line for a person when it is not the recommended encoder, else None.
    """

    spec: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """One line of `pixseek encoders`.

    Attributes:
        spec: what `load_encoder` takes.
        dim: embedding width, None when not known before loading.
        params: number of parameters, None when not known.
        size_bytes: size of the weights in float32, None when not known.
        cached: the weights are on this machine.
        exported: the ONNX towers are in the cache; torch is not needed.
        note: one clause.
    """

    spec: str
    dim: int | None
    params: int | None
    size_bytes: int | None
    cached: bool
    exported: bool
    note: str


def load_encoder(
    spec: str,
    *,
    cache_dir: Path,
    allow_pickle: bool = False,
    offline: bool = False,
    runtime: Runtime | Literal["auto"] | None = None,
    threads: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Encoder:
    """Return the encoder that `spec` names.

    Args:
        spec: `builtin`, `auto`, `MODEL/PRETRAINED`, `MODEL@WEIGHTS`, `CONFIG.json@WEIGHTS`, `hf-hub:ORG/NAME`
            or `local-dir:FOLDER` (open_clip's format, the built-in one's, or an adapter); docs/encoders.md.
        cache_dir: where exports and checksums are kept; see `store`.
        allow_pickle: read the tensors, and nothing else, of a .pt, .pth or .bin file.
        offline: no network call, whatever is missing.
        runtime: None, for questions: ONNX, which opens soonest; torch where the model cannot be exported.
            "auto", for many pictures: begins so and changes to the fastest that agrees (`MeasuredEncoder`).
            "onnx" raises where None would fall back; "torch" builds the model in torch, words too; any other
            of `RUNTIMES` runs the pictures. The fingerprint is the same.
        threads: of the computation; None means the physical cores.
        on_wait: told, in one line, before the towers are exported (a minute or more, once) or measured.
    Returns:
        An encoder; its `notice`, where it has one, is None or one line for a person.
    Raises:
        UsageError: not a spec.
        EncoderUnavailableError: name unknown, weights not here and not to be had, or torch not installed.
        EncoderDamagedError: weights or export cut, altered or not what they say.
        EncoderError: a pickle that was not allowed, a model pixseek cannot run.
        RuntimeUnavailableError: the runtime that was asked for cannot run it here.
    """
    if spec.strip() == "auto":
        spec = resolve_auto(cache_dir=cache_dir, offline=offline).spec
    parsed = parse_spec(spec)
    if parsed.kind == "builtin":
        return _builtin(None, "builtin", runtime, threads)
    if parsed.kind == "dir":

        def load_base(base: str) -> Encoder:
            return load_encoder(
                base,
                cache_dir=cache_dir,
                allow_pickle=allow_pickle,
                offline=offline,
                runtime=runtime,
                threads=threads,
                on_wait=on_wait,
            )

        local = _from_folder(parsed, load_base, runtime, threads)
        if local is not None:
            return local
    store = Store(cache_dir)
    base: OnnxEncoder | TorchEncoder | None = None
    if runtime != "torch":
        base = _from_cache(parsed, store, threads)
    if base is None:
        base = _from_weights(parsed, store, allow_pickle, offline, runtime, threads, on_wait)
    if runtime in (None, "onnx", "torch"):
        return base
    from encoders.measured import MeasuredEncoder

    runtimes = runtimes_of(base, parsed, store, allow_pickle, offline)
    return MeasuredEncoder(runtimes, None if runtime == "auto" else runtime, on_wait)


def ready_encoder(spec: str, *, cache_dir: Path) -> Encoder | None:
    """Return what `load_encoder(spec)` would, where that takes milliseconds: built in, or exported before.

    None for any other, and where something is in the way: `load_encoder` says what.
    """
    with contextlib.suppress(EncoderError, UsageError, OSError, KeyError, TypeError):
        if (folder := builtin_folder(spec)) is not None:
            parsed = parse_spec(spec)
            return BuiltinEncoder(None if parsed.kind == "builtin" else folder, spec=parsed.text)
        parsed, store = parse_spec(spec), Store(cache_dir)
        entry = store.recall(parsed.text)
        if entry is not None and not entry.get("failed") and parsed.kind != "dir":
            found = entry["fingerprint"]
            return OnnxEncoder(store.onnx_dir(found), spec=parsed.text, fingerprint=found)
    return None


def resolve_auto(*, cache_dir: Path, offline: bool = False) -> AutoChoice:
    """Return `RECOMMENDED` if it is here or can be fetched, else `builtin` and a line that says why.

    Takes at most `hub.PROBE_SECONDS` when the hub does not answer, and no network call when `offline`.
    """
    spec = parse_spec(RECOMMENDED)
    if _is_exported(spec, Store(cache_dir)):
        return AutoChoice(RECOMMENDED)
    why: str | None
    if not sources.installed():
        why = "the optional encoders are not installed"
        change = f"to change: {sources.INSTALL}, then index with --encoder {RECOMMENDED}"
    else:
        change = f"to change: index with --encoder {RECOMMENDED} when it can be fetched"
        if _is_cached(spec):
            why = None
        else:
            why = "offline mode is on" if offline else hub.hub_reachable()
    if why is None:
        return AutoChoice(RECOMMENDED)
    return AutoChoice("builtin", f"using the built-in encoder: {why}; {change}")


def list_encoders(*, cache_dir: Path | None = None) -> list[EncoderInfo]:
    """Return the encoders worth knowing, `builtin` first, then every other one this cache has seen.

    Any MODEL/PRETRAINED of open_clip works; the ones named here span what is worth its cost on a CPU.
    """
    store = None if cache_dir is None else Store(cache_dir)
    found = [
        EncoderInfo(
            "builtin",
            None,
            None,
            None,
            True,
            True,
            "shipped with pixseek; works offline; English, Chinese, captions",
        )
    ]
    for spec, dim, params, note in _KNOWN:
        parsed = parse_spec(spec)
        exported = store is not None and _is_exported(parsed, store)
        found.append(EncoderInfo(spec, dim, params, params * 4, _is_cached(parsed), exported, note))
    named = {info.spec for info in found}
    for entry in store.entries() if store is not None else []:
        spec = entry["spec"]
        if store is not None and spec not in named:
            with contextlib.suppress(EncoderError, KeyError, TypeError):
                files = [Path(known["path"]) for known in entry["files"]]
                exported = _is_exported(parse_spec(spec), store)
                found.append(
                    EncoderInfo(
                        spec,
                        entry.get("dim"),
                        entry.get("params"),
                        entry["files"][0]["size"],
                        all(path.is_file() for path in files),
                        exported,
                        "used here before",
                    )
                )
    return found


_KNOWN: tuple[tuple[str, int, int, str], ...] = (
    (RECOMMENDED, 768, 376_860_000, "recommended: best for its cost on a CPU, many languages"),
    ("ViT-B-16-SigLIP2/webli", 768, 375_190_000, "better, slower; many languages"),
    ("ViT-B-16-SigLIP/webli", 768, 203_160_000, "English; Flickr30k R@1 .747"),
    ("ViT-B-32-256/datacomp_s34b_b86k", 512, 151_290_000, "English, small; Flickr30k R@1 .649"),
    ("ViT-B-32/laion2b_s34b_b79k", 512, 151_280_000, "English, small; Flickr30k R@1 .668"),
    ("ViT-B-32/openai", 512, 151_280_000, "OpenAI's CLIP; Flickr30k R@1 .588"),
    ("MobileCLIP2-S0/dfndr2b", 512, 74_800_000, "English, smallest and fastest"),
    (
        "ViT-SO400M-14-SigLIP-384/webli",
        1152,
        877_960_000,
        "English, best of its table, Flickr30k R@1 .830; wants a GPU",
    ),
)


def runtimes_of(
    base: OnnxEncoder | TorchEncoder, spec: Spec, store: Store, allow_pickle: bool, offline: bool
) -> Runtimes:
    """Return what can run the pictures of an open_clip model."""
    from encoders.runtimes import Runtimes

    def build() -> TorchModel:
        from encoders.openclip import TorchModel

        built = TorchModel(sources.resolve(spec, allow_pickle=allow_pickle, offline=offline), store)
        if built.fingerprint != base.fingerprint:
            raise EncoderError("its weights have changed since they were exported")
        return built

    if isinstance(base, OnnxEncoder):
        return Runtimes(base, store, base.graph, base.graph_sha256, build, base.threads)
    return Runtimes(base, store, None, base.fingerprint, build, base.threads)


def _builtin(folder: Path | None, spec: str, runtime: str | None, threads: int | None) -> BuiltinEncoder:
    """Return an encoder of the built-in one's format. Raises RuntimeUnavailableError."""
    if runtime not in (None, "auto", "onnx"):
        why = "encoders of the built-in one's format run with onnx only"
        raise RuntimeUnavailableError(spec, runtime, why, "use --runtime auto")
    return BuiltinEncoder(folder, threads, spec=spec)


def _from_folder(
    spec: Spec, load_base: Callable[[str], Encoder], runtime: str | None, threads: int | None
) -> Encoder | None:
    """Return the encoder of a folder in one of our own formats, None when it is in open_clip's or in none."""
    folder = Path(spec.model)
    if is_adapter(folder):
        return read_adapter(folder, spec=spec.text, load_base=load_base)
    return _builtin(folder, spec.text, runtime, threads) if is_builtin_folder(folder) else None


def _from_cache(spec: Spec, store: Store, threads: int | None) -> OnnxEncoder | None:
    """Return the exported encoder of a known spec, or None. A damaged export is removed."""
    entry = store.recall(spec.text)
    if entry is None or entry.get("failed"):
        return None
    folder = store.onnx_dir(entry["fingerprint"])
    if not folder.is_dir():
        return None
    try:
        return OnnxEncoder(folder, spec=spec.text, fingerprint=entry["fingerprint"], threads=threads)
    except EncoderDamagedError:
        if not sources.installed() or not all(Path(known["path"]).is_file() for known in entry["files"]):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _from_weights(
    spec: Spec,
    store: Store,
    allow_pickle: bool,
    offline: bool,
    runtime: str | None,
    threads: int | None,
    on_wait: Callable[[str], None] | None,
) -> OnnxEncoder | TorchEncoder:
    """Return the encoder by building the torch model, and export it for the next time."""
    source = sources.resolve(spec, allow_pickle=allow_pickle, offline=offline)
    files = [source.weights] if source.config_file is None else [source.weights, source.config_file]
    try:
        before = [identity(path) for path in files]
    except OSError as error:
        raise EncoderUnavailableError(
            spec.text, f"{error.filename}: {error.strerror}", "check the path"
        ) from error
    known = store.recall(spec.text)

    from encoders.export import ExportError, export, versions
    from encoders.openclip import TorchModel
    from encoders.torch_runtime import TorchEncoder

    try:
        built = TorchModel(source, store)
    except OSError as error:
        raise EncoderDamagedError(str(source.weights), error.strerror or str(error)) from error
    entry: dict[str, Any] = {
        "fingerprint": built.fingerprint,
        "files": before,
        "dim": built.dim,
        "params": built.params,
    }
    if runtime == "torch":
        return TorchEncoder(built, threads=threads)
    failed = known.get("failed") if known is not None and known["fingerprint"] == built.fingerprint else None
    if not failed or failed.get("versions") != versions() or runtime == "onnx":
        try:
            if on_wait is not None:
                on_wait(f"preparing {spec.text} for this machine; this is done once and takes about a minute")
            folder = export(built, store)
        except ExportError as error:
            failed = {"why": str(error), "versions": versions()}
            if error.lasting:
                store.remember(spec.text, {**entry, "failed": failed})
        else:
            store.remember(spec.text, entry)
            return OnnxEncoder(folder, spec=spec.text, fingerprint=built.fingerprint, threads=threads)
    if runtime == "onnx":
        raise EncoderError(f"encoder {spec.text!r} cannot run as ONNX: {failed['why']}; use --runtime torch")
    notice = f"{spec.text} runs through torch, queries will be slower: {failed['why']}"
    return TorchEncoder(built, threads=threads, notice=notice)


def _is_exported(spec: Spec, store: Store) -> bool:
    entry = store.recall(spec.text)
    if entry is None or entry.get("failed"):
        return False
    return read_json(store.onnx_dir(entry["fingerprint"]) / CONFIG) is not None


def _is_cached(spec: Spec) -> bool:
    """Return whether the weights of MODEL/PRETRAINED are on this machine. No network, no torch."""
    location = published.hub_location(
        published.pretrained_table().get(spec.model, {}).get(spec.tag or "", {})
    )
    return location is not None and hub.cached_file(*location) is not None
