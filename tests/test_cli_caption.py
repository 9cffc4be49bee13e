"""pixseek caption: lines, documents, exit codes, and what it says about pictures it cannot read."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.conftest import ROOT, Pixseek, draw


@pytest.fixture
def colors(pixseek: Pixseek) -> Pixseek:
    """pixseek in a folder with pictures of three colours."""
    for color in ("red", "green", "blue"):
        draw(pixseek.home / f"{color}.png", color)
    return pixseek


def test_each_picture_is_one_line_in_the_order_given(colors: Pixseek) -> None:
    names = ["blue.png", "red.png", str(colors.home / "green.png"), "blue.png"]
    done = colors("caption", *names, "--encoder", "color")
    assert done.stdout.decode().splitlines() == [
        "blue.png\ta blue picture",
        "red.png\ta red picture",
        f"{colors.home}/green.png\ta green picture",
        "blue.png\ta blue picture",
    ]
    assert done.stderr == b""


def test_more_pictures_than_a_batch_and_large_ones_keep_their_order(colors: Pixseek) -> None:
    large = draw(colors.home / "large.png", "yellow", (6000, 5400))
    names = ["red.png", large.name, *["blue.png", "green.png"] * 9, large.name]
    written = colors("caption", *names, "--encoder", "color").stdout.decode().splitlines()
    color = [line.split("\t")[1].split()[1] for line in written]
    assert color == ["red", "yellow", *["blue", "green"] * 9, "yellow"]


def test_a_prompt_begins_every_sentence(colors: Pixseek) -> None:
    done = colors("caption", "red.png", "blue.png", "--encoder", "color", "--prompt", "a photo of")
    assert done.stdout == b"red.png\ta photo of red\nblue.png\ta photo of blue\n"


@pytest.mark.parametrize(
    ("prompt", "why"), [(" ", b"--prompt is blank"), ("x" * 99, b"the prompt is too long")]
)
def test_a_prompt_that_cannot_be_followed_is_a_usage_error(colors: Pixseek, prompt: str, why: bytes) -> None:
    done = colors("caption", "red.png", "blue.png", "--encoder", "color", "--prompt", prompt, exits=2)
    assert why in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


def test_the_document_holds_every_caption(colors: Pixseek) -> None:
    done = colors("caption", "red.png", "blue.png", "--encoder", "color", "--json")
    assert json.loads(done.stdout) == {
        "encoder": "color",
        "count": 2,
        "captions": [
            {"path": "red.png", "caption": "a red picture"},
            {"path": "blue.png", "caption": "a blue picture"},
        ],
    }


def test_bad_pictures_are_named_and_the_others_captioned(colors: Pixseek) -> None:
    (colors.home / "notes.txt").write_text("no picture")
    cut = colors.home / "cut.jpg"
    draw(cut, "red", (400, 300))
    cut.write_bytes(cut.read_bytes()[:300])
    bad = ["notes.txt", "cut.jpg", "gone.png", ".", "\x1b[31m.png"]
    done = colors("caption", "red.png", *bad, "blue.png", "--encoder", "color", exits=3)
    assert done.stdout == b"red.png\ta red picture\nblue.png\ta blue picture\n"
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(bad)
    for line, name in zip(lines, ["notes.txt", "cut.jpg", "gone.png", ".", "\\x1b[31m.png"], strict=True):
        assert line.startswith("pixseek: ")
        assert name in line
    document = json.loads(colors("caption", *bad, "red.png", "--json", "--encoder", "color", exits=3).stdout)
    assert [row["path"] for row in document["captions"]] == ["red.png"]
    assert colors("caption", "gone.png", "notes.txt", "--encoder", "color", exits=3).stdout == b""


def test_the_only_picture_cannot_be_read(colors: Pixseek) -> None:
    for name in ("gone.png", "", ".", "http://127.0.0.1/a.png", "ftp://example.com/a.png"):
        done = colors("caption", name, "--encoder", "color", exits=2)
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1


def test_standard_input_is_a_picture_too(colors: Pixseek) -> None:
    data = (colors.home / "red.png").read_bytes()
    done = colors("caption", "-", "blue.png", "--encoder", "color", input=data)
    assert done.stdout == b"-\ta red picture\nblue.png\ta blue picture\n"
    assert (
        b"standard input is empty" in colors("caption", "-", "--encoder", "color", input=b"", exits=2).stderr
    )


def test_names_stay_one_line_and_exact_ones_are_to_be_had(colors: Pixseek) -> None:
    name = b"a\nb\x1b\xff.png"
    draw(os.fsencode(colors.home) + b"/" + name, "red")
    call = ("caption", name, "--encoder", "color")
    assert colors(*call).stdout == b"a\\nb\\x1b\xff.png\ta red picture\n"
    assert colors(*call, "-0").stdout == name + b"\0a red picture\0"
    (row,) = json.loads(colors(*call, "--json").stdout)["captions"]
    assert set(row) == {"path", "path_b64", "caption"}
    assert os.fsencode(row["path"]) == name


def test_a_picture_is_turned_upright_before_it_is_described(colors: Pixseek) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half = Image.new("RGB", (90, 30), "blue")
    half.paste((220, 30, 30), (0, 0, 45, 30))
    half.save(colors.home / "left.png")
    half.save(colors.home / "turned.png", exif=exif)
    done = colors("caption", "left.png", "turned.png", "--encoder", "color")
    assert done.stdout == b"left.png\ta blue picture\nturned.png\ta red picture\n"


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="the [clip] extra is not installed")
def test_an_encoder_that_cannot_caption_says_who_can(colors: Pixseek) -> None:
    done = colors("caption", "red.png", "--encoder", "ViT-B-32/openai", exits=12)
    assert done.stdout == b""
    assert b"'ViT-B-32/openai' has no caption decoder; use one that has: --encoder " in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_the_built_in_encoder_is_the_default(colors: Pixseek) -> None:
    from encoders.builtin import Weights

    for spec in ([], ["--encoder", "auto"], ["--encoder", "builtin"]):
        if "caption" in Weights().config:
            document = json.loads(colors("caption", "red.png", "--json", *spec).stdout)
            assert document["encoder"] == "builtin"
            assert len(document["captions"][0]["caption"].split()) > 1
        else:
            done = colors("caption", "red.png", *spec, exits=12)
            assert b"'builtin' has no caption decoder; use one that has: --encoder coca" in done.stderr


def test_a_reader_that_goes_away_is_no_error(colors: Pixseek) -> None:
    call = colors.command("caption", *["red.png"] * 30, "--encoder", "color")
    with subprocess.Popen(
        call, cwd=colors.home, env=colors.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, cli; sys.argv = ['pixseek', 'caption', '--help']\n"
        "try: cli.main()\n"
        "finally: print({'numpy', 'PIL', 'encoders', 'search'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == b"set()"
    assert b"PICTURE..." in done.stdout
