"""`headstart doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

from headstart.cli.output import Json, print_json, print_table, say
from headstart.weights import SOURCES, catalog_rows

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
)


def doctor(json: Json = False) -> None:
    """Show what this machine offers and what is missing."""
    import torch

    from headstart import compute

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
        "packages": versions,
        "always_there": [row.name for row in catalog_rows() if row.name.startswith("bundled:")],
        "sources": list(SOURCES),
    }
    if json:
        print_json(facts)
        return
    print_table(
        "", ["", ""], [(name, value) for name, value in facts.items() if name not in ("packages", "sources")]
    )
    print_table("", ["package", "version"], [(name, value or "missing") for name, value in versions.items()])
    missing = [name for name in ("onnx", "onnxruntime") if not versions[name]]
    say(
        f"For ONNX export: pip install 'headstart[onnx]' (missing: {', '.join(missing)})"
        if missing
        else "Everything is here."
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
