"""Images that differ by colour alone, and tiny networks of which one sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from headstart import weights


def make_tints(folder: Path, *, each: int = 40) -> Path:
    """The folder, with so many reddish and bluish images of noise in it."""
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(60, 160, (48, 48, 1)).repeat(3, axis=2)
            pixels[:, :, channel] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def make_nets(folder: Path) -> dict[str, str]:
    """Names of a network that sees colours, its twin, one that is colour-blind, and one that sees nothing at all."""
    module = weights.blank("test_resnet").module
    state = {name: value.clone() for name, value in module.state_dict().items()}
    first = next(name for name, value in state.items() if value.ndim == 4 and value.shape[1] == 3)
    blind = state | {first: state[first].mean(1, keepdim=True).expand_as(state[first]).contiguous()}
    states = {"sees": state, "twin": state, "blind": blind}
    states["nothing"] = {n: torch.zeros_like(v) if v.ndim == 4 else v for n, v in state.items()}
    out = {}
    for name, content in states.items():
        path = folder / f"{name}.safetensors"
        save_file(content, path)
        out[name] = f"file:{path}"
    return out
