"""`headstart doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from headstart._core.records import to_plain
from headstart.cli.output import Json, print_json, print_table, say
from headstart.weights import SOURCES, catalog_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.compute import Chosen

_PACKAGES = (
    "headstart",
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "scikit-learn",
    "pillow",
    "onnx",
    "onnxruntime",
    "openvino",
)
_TRIAL = "bundled:efficientnet_lite0"
_PICTURES = 16


def doctor(json: Json = False) -> None:
    """Show what this machine offers and what is missing."""
    import torch

    from headstart import compute

    chosen, seconds = _runtime()
    versions = {name: _version(name) for name in _PACKAGES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(compute.device()),
        "gpu": gpu,
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "runtime": to_plain(chosen) | {"seconds": round(seconds, 2), "weights": _TRIAL},
        "packages": versions,
        "always_there": [row.name for row in catalog_rows() if row.name.startswith("bundled:")],
        "sources": list(SOURCES),
    }
    if json:
        print_json(facts)
        return
    tables = ("packages", "sources", "runtime")
    print_table("", ["", ""], [(name, value) for name, value in facts.items() if name not in tables])
    say(f"Frozen networks run in {chosen.engine} ({chosen.precision}): {chosen.reason}.")
    print_table("", ["runtime", "outcome"], [(each.engine, each.outcome) for each in chosen.tried])
    print_table("", ["package", "version"], [(name, value or "missing") for name, value in versions.items()])
    missing = [name for name in ("onnx", "onnxruntime") if not versions[name]]
    say(
        f"For ONNX export: pip install 'headstart[onnx]' (missing: {', '.join(missing)})"
        if missing
        else "Everything is here."
    )


def _runtime() -> tuple[Chosen, float]:
    """The runtime that frozen networks get on this machine, and the seconds that this took to find out."""
    from headstart import compute, weights

    started = time.perf_counter()
    backbone = weights.load(_TRIAL)
    contract = backbone.info.preprocess
    chosen = compute.diagnose(backbone, _pictures(contract.height, contract.width))
    return chosen, time.perf_counter() - started


def _pictures(height: int, width: int) -> NDArray[np.uint8]:
    """Pictures (N, height, width, 3) with structure at every scale, as photos have: noise of falling strength, summed."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    out = np.zeros((_PICTURES, height, width, 3))
    for cells in (2, 5, 12, 30, 75):
        for picture in out:
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            smooth = noise.resize((width, height), Image.Resampling.BICUBIC)
            picture += (np.asarray(smooth) - 127.5) * (2 / cells) ** 0.5
    return np.clip(out + 127.5, 0, 255).astype(np.uint8)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
