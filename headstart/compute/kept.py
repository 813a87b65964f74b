"""Verdicts and compiled networks on disk: `$HEADSTART_CACHE/compute/KEY/`."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from headstart._core import records
from headstart._core.errors import BadInput
from headstart._core.files import sha256_bytes
from headstart._core.places import cache_folder
from headstart.compute.engines import ENGINES
from headstart.compute.records import Chosen
from headstart.data.preprocess import Preprocess
from headstart.pixels import cpus

FORMAT = 1
"""Raised when an older entry would be misread, or when the gate has changed its mind about what passes."""

KEEP = 64
"""Entries that are kept: each is about as large as its network's weights."""

_VERDICT = "verdict.json"
_PACKAGES = ("torch", "torchvision", "timm", "openvino")


def content_hash(network: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all parameters and buffers: what the weights are, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def folder_of(network: nn.Module, preprocess: Preprocess, depths: tuple[str, ...]) -> Path | None:
    """Where everything about this network on this machine is kept; None where no cache folder can be had.

    The key covers the weights' bytes, the structure that torch prints, the contract, the depths, the versions of what
    compiles and of what defines networks, and the processor.
    """
    facts = {
        "format": FORMAT,
        "weights": content_hash(network),
        "structure": sha256_bytes(repr(network).encode()),
        "preprocess": records.to_plain(preprocess),
        "depths": depths,
        "engines": list(ENGINES),
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": [processor(), cpus(), torch.cuda.get_device_name() if torch.cuda.is_available() else ""],
    }
    try:
        return cache_folder("compute") / sha256_bytes(json.dumps(facts, sort_keys=True).encode())[:32]
    except BadInput:  # no home folder
        return None


def load_verdict(folder: Path | None) -> Chosen | None:
    """The verdict that was kept; None where there is none, or it is damaged or names an engine that is gone."""
    if folder is None:
        return None
    try:
        chosen = records.load(Chosen, folder / _VERDICT)
    except (BadInput, OSError):
        return None
    if chosen.engine not in ENGINES or ENGINES[chosen.engine].available():
        return None
    return chosen


def save_verdict(folder: Path | None, chosen: Chosen) -> None:
    """Keep a verdict; a cache that cannot be written costs time, not the run."""
    if folder is None:
        return
    with suppress(BadInput):
        records.save(folder / _VERDICT, chosen)
        _forget_oldest(folder.parent)


def _forget_oldest(root: Path) -> None:
    """Remove entries beyond `KEEP`; a process that still wanted one makes it again."""
    with suppress(OSError):
        entries = sorted(
            (path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
        )
        for path in entries[:-KEEP]:
            shutil.rmtree(path, ignore_errors=True)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@cache
def processor() -> str:
    """The processor's name and abilities: compiled code of one is not for another."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        kinds = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")
        found = {line for line in lines if line.partition(":")[0].strip() in kinds}
        if found:
            return sha256_bytes("\n".join(sorted(found)).encode())
    return f"{platform.machine()} {platform.processor()}"
