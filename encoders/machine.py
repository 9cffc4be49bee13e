"""What decides how fast a runtime is here: processor, graphics card, versions. No runtime is imported."""

from __future__ import annotations

import functools
import importlib.util
import platform
from pathlib import Path
from typing import Any

from encoders.onnx_runtime import physical_cores

RUNTIME_PACKAGES = ("onnxruntime", "onnx", "torch", "open_clip_torch", "openvino")


def description() -> dict[str, Any]:
    """Return cpu, flags, cores, gpus and versions: what was measured with others is measured again."""
    model, flags = _cpu()
    return {
        "cpu": model,
        "flags": sorted(flags),
        "cores": physical_cores(),
        "gpus": gpus(),
        "versions": {name: _version(name) for name in RUNTIME_PACKAGES},
    }


def has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 itself; elsewhere bfloat16 loses to float32."""
    return bool(_cpu()[1] & {"avx512_bf16", "amx_bf16"})


def gpus() -> list[str]:
    """Return the names of NVIDIA cards whose driver is loaded, without asking CUDA."""
    # Windows' subsystem for Linux has no such folder, and one library for whatever card there is.
    found = ["NVIDIA card of Windows"] if Path("/usr/lib/wsl/lib/libcuda.so.1").exists() else []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return found


def installed(module: str) -> bool:
    """Return whether a module could be imported."""
    return importlib.util.find_spec(module) is not None


@functools.cache
def _cpu() -> tuple[str, frozenset[str]]:
    """Return the processor's name and what it can do; no flags where the system has no /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip(), frozenset()
    values: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    flags = values.get("flags", values.get("Features", ""))
    return values.get("model name", platform.machine()), frozenset(flags.split())


def _version(name: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
