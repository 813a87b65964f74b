"""Fresh processes measured from outside, in turn, and what their numbers amount to."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Answer = dict[str, Any]
Runs = dict[str, list[Answer]]

_PACKAGES = (
    "headstart",
    "numpy",
    "onnxruntime",
    "openvino",
    "pillow",
    "scikit-learn",
    "timm",
    "torch",
    "torchvision",
)
_TAIL = 2000  # characters of a failed process's last words


class BenchError(RuntimeError):
    """A measurement that could not be made."""


def environment(cache: Path) -> dict[str, str]:
    """The environment of a measured process: this one's, with a cache folder of its own and a neutral allocator."""
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    return told | {"PYTHONPATH": str(ROOT), "HEADSTART_CACHE": str(cache)}


def start(command: Sequence[str], *, cache: Path, folder: Path) -> subprocess.Popen[str]:
    """A process whose output and errors go to new files in `folder`, named `stdout` and `stderr` on the object."""
    out = tempfile.NamedTemporaryFile("w+", dir=folder, suffix=".out", delete=False)  # noqa: SIM115
    errors = tempfile.NamedTemporaryFile("w+", dir=folder, suffix=".err", delete=False)  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=out,
        stderr=errors,
        env=environment(cache),
        cwd=folder,
        text=True,
    )
    process.stdout, process.stderr = out, errors
    return process


def finish(process: subprocess.Popen[str]) -> Answer:
    """The JSON object at the end of the process's output, with `peak_mb`: the resident memory of its largest process.

    Raises:
        BenchError: when it failed, with its last words.
    """
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    told, errors = _text(process.stdout), _text(process.stderr)
    if process.returncode:
        raise BenchError(
            f"A measured process ended with {process.returncode}: {process.args!r}\n{errors[-_TAIL:]}"
        )
    answer: Answer = json.loads(told[told.index("{") :])
    return {"peak_mb": usage.ru_maxrss / 1024} | answer


def _text(stream: Any) -> str:
    stream.seek(0)
    out: str = stream.read()
    stream.close()
    return out


def peak_mb() -> float:
    """The most memory that was resident in this process so far.

    Not `ru_maxrss`, where there is a choice: that of a new process begins with what its parent had.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def call(command: Sequence[str], *, cache: Path, folder: Path) -> Answer:
    """The answer of a fresh process, with `wall_s` from its start to its end and `peak_mb`."""
    started = time.perf_counter()
    process = start(command, cache=cache, folder=folder)
    try:
        answer = finish(process)
    except BaseException:  # Ctrl-C: nothing is left running
        process.kill()
        raise
    return answer | {"wall_s": time.perf_counter() - started}


def role(module: str, name: str, /, **arguments: Any) -> list[str]:
    """The command that plays a role of `bench.ours`, `bench.plain` or `bench.gpu`."""
    return ["-m", f"bench.{module}", name, json.dumps(arguments)]


def in_turn(ways: Mapping[str, Callable[[], Answer]], repeats: int) -> Runs:
    """Way -> its answers, measured A B A B …: what disturbs the machine disturbs all ways alike."""
    runs: Runs = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            runs[name].append(way())
    return runs


def numbers(runs: Runs, field: str, ways: Sequence[str] = ()) -> dict[str, list[float]]:
    """Way -> that field of each of its answers; of all ways, or of those named."""
    return {name: [answer[field] for answer in runs[name]] for name in ways or runs}


def row(what: str, unit: str, values: Mapping[str, Sequence[float]], *, more: bool = False) -> Answer:
    """A line of the table: each way's median, lowest and highest value, and by how much the first way is ahead.

    Args:
        what: is measured.
        unit: of the values.
        values: way -> each single value; ours first.
        more: whether a higher value is better.
    """
    told = {
        name: {
            "median": statistics.median(each),
            "low": min(each),
            "high": max(each),
            "values": list(each),
        }
        for name, each in values.items()
    }
    ours, *others = told
    ratios = {}
    for other in others:
        above, below = (ours, other) if more else (other, ours)
        ratios[other] = _ratio(told[above]["median"], told[below]["median"])
    return {
        "what": what,
        "unit": unit,
        "better": "more" if more else "less",
        "values": told,
        "ratios": ratios,
    }


def _ratio(above: Any, below: Any) -> float | None:
    return above / below if below else None


def machine() -> Answer:
    """What the figures depend on: processor, memory, versions, and how busy the machine was."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "threads": os.environ.get("OMP_NUM_THREADS", "as the libraries choose"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    parts = [found.get("model name", platform.processor())]
    parts += [
        f"{word} {found[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in found
    ]
    flags = found.get("flags", "").split()
    return ", ".join(
        [*parts, *(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags)]
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
