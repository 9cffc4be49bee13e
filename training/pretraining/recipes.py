"""What a person writes to have an encoder trained: a TOML file, read into dataclasses and checked to the key.

Paths in a recipe are read from the folder the recipe is in. docs/training.md lists every key.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from encoders import UsageError


def _number(default: float, low: float, high: float = math.inf) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Data:
    """One source of pictures.

    Attributes:
        source: a file or folder `read_dataset` knows.
        weight: how often each picture comes in an epoch; 0.5 is half of them, drawn anew each time.
        share: the part of the source that is used at all, for a quick trial.
        field: where the captions are, in formats whose records have several.
        templates: what turns a label into a sentence, with {} for the label.
    """

    source: Path
    weight: float = _number(1.0, 0.001, 1000)
    share: float = _number(1.0, 0.0001, 1)
    field: str = "captions"
    templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What recall is measured on: a source of its own, or a part of the data that is never trained on."""

    fraction: float = _number(0.1, 0, 0.9)
    source: Path | None = None
    field: str = "captions"
    templates: tuple[str, ...] = ()
    every: int = _number(1, 1)


@dataclass(frozen=True, slots=True)
class Rates:
    """Peak learning rates; 0 leaves a tower as it is. `rest` is the temperature and the bias."""

    image: float = _number(5e-4, 0)
    text: float = _number(5e-4, 0)
    decoder: float = _number(5e-4, 0)
    rest: float = _number(5e-4, 0)


@dataclass(frozen=True, slots=True)
class Teacher:
    """Another encoder to learn from.

    Attributes:
        encoder: a spec, as after `--encoder`; none where empty.
        texts: files of one sentence a line, plain or .gz, for the text tower alone.
        weight: of the text tower's loss on the teacher's sentence embeddings; 0 leaves it out.
        batch: lines of `texts` per step.
        scale: inverse temperature of the teacher's similarities in loss "distill"; 100 is CLIP's own.
    """

    encoder: str = ""
    texts: tuple[Path, ...] = ()
    weight: float = _number(1.0, 0)
    batch: int = _number(64, 1)
    scale: float = _number(100.0, 0.1, 1000)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """open_clip's preprocess_cfg: how a picture becomes the square the model reads."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"


@dataclass(frozen=True, slots=True)
class OpenClipRecipe:
    """A training of an open_clip architecture; see docs/training.md for the meaning of each key."""

    out: Path
    data: tuple[Data, ...]
    model: str = ""
    model_cfg: dict[str, Any] = field(default_factory=dict)
    init: Path | None = None
    tokenizer: Path | None = None
    loss: Literal["clip", "siglip", "coca", "distill"] = "clip"
    contrastive_weight: float = _number(1.0, 0)
    caption_weight: float = _number(2.0, 0)
    epochs: int = _number(10, 1)
    batch: int = _number(64, 2)
    accumulate: int = _number(1, 1)
    warmup: float = _number(0.05, 0, 1)
    weight_decay: float = _number(0.1, 0)
    clip_norm: float = _number(1.0, 0.000001)
    ema: float = _number(0.998, 0, 0.999999)
    augment: float = _number(0.3, 0, 1)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    threads: int = _number(0, 0)
    seed: int = _number(0, 0, 2**31)
    checkpoint_every: int = _number(200, 1)
    log_every: int = _number(20, 1)
    held_out: HeldOut = HeldOut()
    rates: Rates = Rates()
    teacher: Teacher = Teacher()
    preprocess: Preprocessing = Preprocessing()

    def facts(self, model_cfg: dict[str, Any]) -> dict[str, Any]:
        """Return every key that decides the weights, flat (`data[0].source`), as JSON can hold it.

        Args:
            model_cfg: what `model` or its file comes down to.
        """
        whole = dataclasses.asdict(self) | {"model_cfg": model_cfg}
        return {key: value for key, value in _flatten("", whole) if key not in _ANYWHERE}


@dataclass(frozen=True, slots=True)
class BuiltinRecipe:
    """A training of the encoder shipped with pixseek; `table` goes to `training.builtin` as it is."""

    data: Path
    cache: Path
    out: Path
    table: dict[str, Any]


_ANYWHERE = frozenset({"model", "out", "device", "threads", "checkpoint_every", "log_every"})
# What may change between two parts of one training, when the person says so.
ADJUSTABLE = (
    "epochs", "rates.", "warmup", "weight_decay", "clip_norm", "ema", "augment", "precision",
    "contrastive_weight", "caption_weight", "teacher.weight", "teacher.scale", "held_out.every",
)  # fmt: skip


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the keys that differ between two `facts`, each as `key (was 1, is 2)`, in order of name."""
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return [f"{key} (was {before.get(key)!r}, is {now.get(key)!r})" for key in keys]


def load_recipe(path: Path) -> OpenClipRecipe | BuiltinRecipe:
    """Return a recipe.

    Raises:
        UsageError: no such file, not TOML, an unknown key, a wrong type or value, a missing file or folder.
    """
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read the recipe {path}: {error.strerror}; for one to start from: "
            f"pixseek train --example tiny-clip"
        ) from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    return parse_recipe(table, base=path.absolute().parent, name=str(path))


def parse_recipe(
    table: dict[str, Any], *, base: Path, name: str = "recipe"
) -> OpenClipRecipe | BuiltinRecipe:
    """Return the recipe in a table; relative paths start at `base`. Raises UsageError."""
    table = dict(table)
    kind = table.pop("kind", None)
    if kind == "builtin":
        return _builtin(table, base, name)
    if kind != "open_clip":
        raise UsageError(f'{name}: kind is {kind!r}; it must be "open_clip" or "builtin"')
    recipe = read_table(OpenClipRecipe, table, "", base, name)
    assert isinstance(recipe, OpenClipRecipe)
    _check(recipe, name)
    return recipe


def examples() -> list[str]:
    """Return the names of the recipes that come with pixseek."""
    folder = resources.files("training.pretraining") / "examples"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def example_recipe(name: str) -> str:
    """Return the text of a recipe that comes with pixseek. Raises UsageError, with the names there are."""
    wanted = name.removesuffix(".toml")
    if wanted not in examples():
        raise UsageError(f"no example named {name!r}; there are {', '.join(examples())}")
    folder = resources.files("training.pretraining") / "examples"
    return (folder / f"{wanted}.toml").read_text(encoding="utf-8")


def _builtin(table: dict[str, Any], base: Path, name: str) -> BuiltinRecipe:
    paths = {}
    for key in ("data", "cache", "out"):
        value = table.pop(key, None)
        if not isinstance(value, str) or not value:
            raise UsageError(f"{name}: {key} is missing; it must be a folder, as text")
        paths[key] = base / Path(value).expanduser()
    if not paths["data"].is_dir():
        raise UsageError(f"{name}: data: no such folder: {paths['data']}")
    return BuiltinRecipe(**paths, table=table)


def _check(recipe: OpenClipRecipe, name: str) -> None:
    """Raises UsageError for keys that are right alone and wrong together."""
    if bool(recipe.model) == bool(recipe.model_cfg):
        raise UsageError(f"{name}: give either model (a name or a .json file) or a table model_cfg")
    if not recipe.data:
        raise UsageError(f"{name}: data is empty; add a [[data]] table with a source")
    for where, templates in [(f"data[{i}]", data.templates) for i, data in enumerate(recipe.data)] + [
        ("held_out", recipe.held_out.templates)
    ]:
        for template in templates:
            if template.count("{}") != 1:
                raise UsageError(
                    f"{name}: {where}.templates: {template!r} must have {{}} once, for the label"
                )
    for key, values in (("mean", recipe.preprocess.mean), ("std", recipe.preprocess.std)):
        if len(values) != 3 or (key == "std" and min(values) <= 0):
            raise UsageError(f"{name}: preprocess.{key} must be three numbers, red, green and blue")
    if recipe.loss == "distill" and not recipe.teacher.encoder:
        raise UsageError(f'{name}: loss = "distill" needs teacher.encoder, such as "builtin"')
    if recipe.teacher.texts and not recipe.teacher.encoder:
        raise UsageError(f"{name}: teacher.texts needs teacher.encoder, the encoder they are learned from")
    if recipe.loss == "coca" and not recipe.contrastive_weight + recipe.caption_weight:
        raise UsageError(f"{name}: contrastive_weight and caption_weight are both 0")


# --- reading a table into a dataclass; `training.builtin` has one of its own


def read_table(cls: type, table: Any, where: str, base: Path, name: str) -> Any:
    """Return `cls` filled from a table; `where` is the dotted name of the table. Raises UsageError."""
    if not isinstance(table, dict):
        raise UsageError(f"{name}: {where.rstrip('.')} is {_kind(table)}; it must be a table")
    fields = {one.name: one for one in dataclasses.fields(cls)}
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(fields)}"
            raise UsageError(f"{name}: {where}{key} is not a key; {hint}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, one in fields.items():
        if key in table:
            values[key] = _value(hints[key], table[key], f"{where}{key}", base, name, dict(one.metadata))
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            wanted = "a [[data]] table with a source" if key == "data" else "a path, as text"
            raise UsageError(f"{name}: {where}{key} is missing; it must be {wanted}")
    return cls(**values)


def _value(hint: Any, value: Any, where: str, base: Path, name: str, limits: dict[str, float]) -> Any:
    """Return a value of the type `hint`. Raises UsageError that says what would be right."""

    def wrong(wanted: str) -> UsageError:
        return UsageError(f"{name}: {where} = {value!r} is {_kind(value)}; it must be {wanted}")

    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return read_table(typing.cast(type, hint), value, f"{where}.", base, name)
    if origin is Literal:
        if value not in arguments or not isinstance(value, str):
            raise UsageError(f"{name}: {where} is {value!r}; it must be one of {', '.join(arguments)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise wrong("a list, in [ ]")
        return tuple(
            _value(arguments[0], member, f"{where}[{number}]", base, name, {})
            for number, member in enumerate(value)
        )
    if origin is types.UnionType or hint is Path:  # Path, or Path | None
        if not isinstance(value, str) or not value:
            raise wrong("a path, as text")
        if where == "init" and value == "scratch":
            return None
        path = base / Path(value).expanduser()
        several = where.endswith("source") and any(sign in value for sign in "*?[{")
        if where != "out" and not path.exists() and not several:
            raise UsageError(
                f"{name}: {where}: no such file or folder: {path}; paths start at the recipe's folder"
            )
        return path
    if origin is dict:
        if not isinstance(value, dict):
            raise wrong("a table")
        return value
    if hint is str:
        if not isinstance(value, str) or not value:
            raise wrong("text, in quotes")
        return _model(value, base) if where == "model" else value
    whole = hint is int
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise wrong("a whole number" if whole else "a number")
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    if not low <= value <= high:
        span = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
        raise UsageError(f"{name}: {where} = {value!r}; it must be {span}")
    return value if whole else float(value)


def _model(value: str, base: Path) -> str:
    return str(base / Path(value).expanduser()) if value.endswith(".json") else value


def _kind(value: Any) -> str:
    """Return what a TOML value is, as a person calls it."""
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date")


def _flatten(prefix: str, value: Any) -> typing.Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), member)
    elif isinstance(value, (tuple, list)) and any(isinstance(member, dict) for member in value):
        for number, member in enumerate(value):
            yield from _flatten(f"{prefix}[{number}]", member)
    else:
        # A file by its name alone: a folder that moved is the same training; contents are compared apart.
        if isinstance(value, (tuple, list)):
            value = [member.name if isinstance(member, Path) else member for member in value]
        yield prefix, value.name if isinstance(value, Path) else value
