"""The commands that make and judge encoders: parse, call, print, as in `cli`, which registers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

COMMANDS: tuple[Callable[..., Any], ...] = ()
"""In the order in which `pixseek --help` lists them."""
