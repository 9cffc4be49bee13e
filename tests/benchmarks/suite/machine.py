"""The machine: what it is, whole commands run on it, and the limits that nothing on it can pass."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.suite.settings import HOME, ROOT

_LAUNCHER = """
import json, os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
err = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
began = time.perf_counter()
child = os.fork()
if child == 0:
    try:
        os.dup2(out, 1), os.dup2(err, 2)
        os.execvp(sys.argv[3], sys.argv[3:])
    finally:
        os._exit(127)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - began
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
# A process of its own starts the command: what a child is said to have needed at most begins with what its
# parent held when it forked, and this one holds nothing.


@dataclass(frozen=True, slots=True)
class Ran:
    """A whole command.

    Attributes:
        wall_s: from its start to its end.
        cpu_s: of all its processes and threads.
        peak_mb: resident at most in the largest of its processes, files it mapped included.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    stdout: str

    def numbers(self) -> dict[str, float]:
        """Return what is kept of it; `busy` is the share of all cores it used."""
        busy = self.cpu_s / self.wall_s / cores()
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_mb": self.peak_mb, "busy": busy}


def run(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    accept: tuple[int, ...] = (0,),
    timeout_s: float = 3600,
) -> Ran:
    """Run a command to its end and return what it cost.

    Raises:
        RuntimeError: it took too long (and was killed with all it had begun), or another exit code than
            those accepted: the message ends with its last words.
    """
    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept) / "out", Path(kept) / "err"
        launched = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, out, err, *map(str, command)],
            env={**os.environ, **(environ or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            told, _ = launched.communicate(timeout=timeout_s)
        except BaseException as error:  # an interrupt ends it, too
            os.killpg(launched.pid, signal.SIGKILL)
            launched.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise RuntimeError(f"not done after {timeout_s:,.0f} s") from None
            raise
        code, wall, cpu, peak_kb = json.loads(told)
        if code not in accept:
            said = err.read_text(errors="replace").strip()
            print(f"{' '.join(map(str, command))}: ended with {code}\n{said[-2000:]}", file=sys.stderr)
            raise RuntimeError(f"ended with {code}: {said.splitlines()[-1] if said else 'said nothing'}")
        return Ran(wall, cpu, peak_kb / 1024, out.read_text(errors="replace"))


def pixseek(
    *arguments: str | Path, accept: tuple[int, ...] = (0,), environ: Mapping[str, str] | None = None
) -> Ran:
    """Run pixseek's command line of this checkout, with a cache of its own and without a resident helper."""
    return run(
        [sys.executable, ROOT / "cli.py", *arguments],
        environ={**pixseek_environ(), **(environ or {})},
        accept=accept,
    )


def pixseek_environ() -> dict[str, str]:
    """Return the environment in which pixseek touches nothing of the person who measures."""
    own = HOME / "pixseek"
    return {
        "XDG_CACHE_HOME": str(own / "cache"),
        "XDG_DATA_HOME": str(own / "data"),
        "XDG_CONFIG_HOME": str(own / "config"),
        "XDG_STATE_HOME": str(own / "state"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "PIXSEEK_INDEX": "",
        "PIXSEEK_RESIDENT": "0",
    }


def pixseek_cache() -> Path:
    """Return where pixseek's exports and choices are kept in that environment."""
    return Path(pixseek_environ()["XDG_CACHE_HOME"])


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return the machine and what is installed here, for the page."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    model, flags = platform.processor(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
            if line.startswith("flags"):
                flags = line.partition(":")[2]
    except OSError:
        pass
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
    packages = ("numpy", "pillow", "faiss-cpu", "onnxruntime", "openvino", "torch", "open_clip_torch")
    return {
        "cpu": model,
        "cores": cores(),
        "flags": [flag for flag in known if flag in flags.split()],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := installed(name))},
    }


# -- limits


def read_seconds(block: npt.NDArray[Any], rounds: int = 7) -> float:
    """Return the least seconds in which the cores read an array once, and do no more with it.

    A float32 dot product of the bytes with themselves, whatever they mean: it asks for each byte once and
    keeps the adders less busy than the memory. In pieces, by one thread for each core and by one alone.
    """
    words = block.reshape(-1).view(np.uint8)
    words = words[: len(words) // 4 * 4].view(np.float32)
    step = 1 << 19  # 2 MiB

    def read(part: npt.NDArray[np.float32]) -> None:
        with np.errstate(all="ignore"):
            for start in range(0, len(part), step):
                piece = part[start : start + step]
                np.dot(piece, piece)

    def once(count: int) -> float:
        threads = [threading.Thread(target=read, args=(part,)) for part in np.array_split(words, count)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    return min(once(count) for count in {1, cores()} for _ in range(rounds))


def gemm_peaks(seconds: float = 2.0) -> dict[str, float]:
    """Return GFLOP/s of large matrix products on all cores: `fp32`, `bf16` (torch), `int8` (onnxruntime).

    int8 is counted in the same units (two operations a multiply and add). What cannot run here is left out.
    """
    import torch

    torch.set_num_threads(cores())
    peaks: dict[str, float] = {}
    size = 2048
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(size, size).to(kind), torch.randn(size, size).to(kind)
        with torch.inference_mode():
            peaks[name] = 2 * size**3 / _fastest(lambda a=a, b=b: torch.mm(a, b), seconds) / 1e9
    try:
        peaks["int8"] = _int8_peak(size, seconds)
    except Exception as error:  # a limit that cannot be measured is left out of the table
        print(f"no int8 peak: {error}")
    return peaks


def _int8_peak(size: int, seconds: float) -> float:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).integers(-128, 128, (size, size), dtype=np.int8)
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [size, size])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    a = np.random.default_rng(1).integers(0, 256, (size, size), dtype=np.uint8)
    return 2 * size**3 / _fastest(lambda: session.run(None, {"a": a}), seconds) / 1e9


def _fastest(call: Callable[[], object], seconds: float) -> float:
    call()
    least, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - began)
    return least
