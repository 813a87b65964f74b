"""torch's compiler is not loaded by what does not compile, and is the real one for whoever asks."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_fit_starts_without_the_compiler() -> None:
    run(
        "import sys, headstart.runs.fit;"
        "found = {'torch._dynamo', 'torch._dynamo.utils', 'torch._inductor', 'sympy'} & set(sys.modules);"
        "assert not found, found"
    )


USES = {
    "a function that was marked": (
        "from torchvision import tv_tensors\n"
        "    assert 'config' not in dir(sys.modules['torch._dynamo'])\n"
        "image = tv_tensors.Image(torch.ones(3, 2, 2))\n"
        "assert type(tv_tensors.wrap(torch.zeros(3, 2, 2), like=image)) is tv_tensors.Image"
    ),
    "the question": (
        "from torchvision.ops import roi_align as layers\n"
        "found = sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu')\n"
        "import torch._dynamo.utils\n"
        "assert found is torch._dynamo.utils.is_compile_supported('cpu')"
    ),
    "a part of it, still inside": (
        "import torch._dynamo.config\n    assert torch._dynamo.config.recompile_limit > 0"
    ),
}


@pytest.mark.parametrize("use", USES)
def test_whoever_asks_gets_the_real_one(use: str) -> None:
    run(
        "import sys, torch\nfrom headstart._core.imports import compiler_later\n"
        f"with compiler_later():\n    {USES[use]}\n"
        "import torch._dynamo\nassert torch._dynamo.config is sys.modules['torch._dynamo.config']\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2"
    )
