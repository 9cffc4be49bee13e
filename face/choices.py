"""What the commands share: the types of their options, and what the options mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from face import terminal

if TYPE_CHECKING:
    from encoders import Encoder
    from indexer import Space


def _place(text: str | Path) -> Path:
    """Return a path; an empty one (a variable of a script that is not set) is no name for this folder."""
    if not str(text):
        raise typer.BadParameter("the name is empty; . is this folder")
    return Path(text)


IndexDir = Annotated[
    Path | None,
    typer.Option(
        "--index",
        parser=_place,
        metavar="DIR",
        help="Where the index lives (default: $PIXSEEK_INDEX, else the user data folder).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
EncoderSpec = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="SPEC",
        help="builtin, auto, or a model such as ViT-B-32/laion2b_s34b_b79k (see: pixseek encoders).",
        show_default=False,
    ),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Accept weights in pickle format (read as data only).")
]


class Runtime(StrEnum):
    """What may run an encoder's pictures: `encoders.RUNTIMES`, or the fastest of them that agrees."""

    auto = "auto"
    onnx = "onnx"
    int8 = "int8"
    openvino = "openvino"
    bf16 = "bf16"
    torch = "torch"
    cuda = "cuda"


RuntimeName = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        help="What runs the encoder's pictures; auto: the fastest here that agrees (see: pixseek encoders "
        "--benchmark).",
    ),
]
JudgedRuntime = Annotated[
    Runtime | None,
    typer.Option(
        "--runtime",
        help="Judge it as this runs its pictures (default: float32); auto: as pixseek index runs many.",
        show_default=False,
    ),
]
CaptionsField = Annotated[
    str, typer.Option("--captions-field", metavar="NAME", help="Where captions are: captions_zh for one.")
]
ImagesDir = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Where the pictures of a table are.", show_default=False),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Exact = Annotated[
    bool, typer.Option("--exact", help="Read every embedding of a very large index (slower; see status).")
]
Limit = Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many files to show.")]

# --- what must be true of a picture, and in which order hits come

Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Only pictures for which this is true, such as taken:2023; may be repeated.",
        show_default=False,
    ),
]
InFolder = Annotated[
    list[str] | None,
    typer.Option(
        "--in",
        metavar="FOLDER",
        help="Only pictures in this folder; or in any of several.",
        show_default=False,
    ),
]
MinProbability = Annotated[
    str | None,
    typer.Option(
        "--min-probability",
        metavar="P",
        help="Only pictures that match this probably: 0.5 or 50%.",
        show_default=False,
    ),
]
AutoCut = Annotated[bool, typer.Option("--auto-cut", help="Stop where hits no longer stand out.")]
SortBy = Annotated[
    str, typer.Option("--sort", metavar="score|taken|name|size", help="The order to show the best hits in.")
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="day|folder|burst|near-duplicate",
        help="Show one hit for each, with the others behind it.",
        show_default=False,
    ),
]
Diverse = Annotated[
    str | None,
    typer.Option(
        "--diverse",
        metavar="[X]",
        help="Prefer hits that differ from each other; X from 0 to 1 says how much (0.5).",
        show_default=False,
    ),
]

# --- how the answer looks, and where it goes

AsJsonl = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print a table for spreadsheets.")]
Print0 = Annotated[
    bool, typer.Option("-0", "--print0", help="Print exact paths, each ended by NUL (for xargs -0).")
]
PathsOnly = Annotated[bool, typer.Option("--paths-only", help="Print paths without scores.")]
Preview = Annotated[bool, typer.Option("--preview", help="Show thumbnails in the terminal.")]
ContactSheet = Annotated[
    Path | None,
    typer.Option(
        "--contact-sheet",
        parser=_place,
        metavar="FILE",
        help="Also draw the hits on one picture (.png, .jpg, .webp) or on pages (.pdf).",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Let --contact-sheet replace a file.")]
ExportTo = Annotated[
    Path | None,
    typer.Option(
        "--export-to",
        parser=_place,
        metavar="FOLDER",
        help="Also copy the hits there; nothing there is overwritten.",
        show_default=False,
    ),
]
Copy = Annotated[bool, typer.Option("--copy", help="How --export-to does it, unless told otherwise.")]
Symlink = Annotated[bool, typer.Option("--symlink", help="Let --export-to make links instead of copies.")]
OpenThem = Annotated[
    bool, typer.Option("--open", help="Also open the hit, or a contact sheet of several, on the desktop.")
]


def index_folder(asked: Path | None) -> Path:
    """Return the folder of the index: the one asked for, else $PIXSEEK_INDEX, else the user data folder."""
    if asked is not None:
        return asked
    if from_environment := os.environ.get("PIXSEEK_INDEX"):
        return Path(from_environment)
    import platformdirs

    return platformdirs.user_data_path("pixseek", appauthor=False) / "index"


def remembers_questions() -> bool:
    """Return whether embeddings of questions may be kept beside a large index; PIXSEEK_REMEMBER=0: no."""
    return os.environ.get("PIXSEEK_REMEMBER", "1") not in ("0", "no", "off", "false")


def encoder_cache() -> Path:
    """Return the folder of exported encoders."""
    import platformdirs

    return platformdirs.user_cache_path("pixseek", appauthor=False) / "encoders"


def folder_bytes(name: str) -> bytes:
    """Return a folder as bytes. Raises UsageError when it is the empty name."""
    from encoders import UsageError

    if not name:
        raise UsageError("an empty folder name; say which folder, . is this one")
    return os.fsencode(name)


def encoder_spec(asked: str | None, of_index: str | None, *, offline: bool) -> str:
    """Return the encoder asked for, else the index's own, else the best one here, with a note on why."""
    from encoders import resolve_auto

    spec = of_index if asked in (None, "auto") else asked
    if spec is not None:
        return spec
    choice = resolve_auto(cache_dir=encoder_cache(), offline=offline)
    if choice.notice:
        terminal.note(choice.notice)
    return choice.spec


def encoder_chooser(
    asked: str | None,
    *,
    allow_pickle: bool,
    offline: bool,
    runtime: Runtime | None = None,
    begun: Encoder | None = None,
) -> Callable[[Space | None], Encoder]:
    """Return what loads the encoder that `encoder_spec` picks, given the space of the index.

    Args:
        runtime: for many pictures; None for a question, which is answered by what opens soonest.
        begun: taken where it is the one (`headstart`).
    """

    def choose(space: Space | None) -> Encoder:
        from encoders import load_encoder

        spec = encoder_spec(asked, None if space is None else space.spec, offline=offline)
        if begun is not None and begun.spec == spec:
            return begun
        loaded = load_encoder(
            spec,
            cache_dir=encoder_cache(),
            allow_pickle=allow_pickle,
            offline=offline,
            runtime=None if runtime is None else runtime.value,
            on_wait=terminal.note,
        )
        if notice := getattr(loaded, "notice", None):
            terminal.note(notice)
        return loaded

    return choose
