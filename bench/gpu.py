"""The GPU case: training steps and forward passes beside timm's own, and beside the chip's peak.

python -m bench.gpu peak '{}'     what the GPU is and does at most, as JSON
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from bench.cases import Bench
from bench.measure import Answer, call, in_turn, numbers, role, row

NETWORKS = ("resnet50", "vit_base_patch16_224")

PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Part of a GPU's name -> dense bfloat16 operations/s as NVIDIA's data sheets state them; the first fit counts."""

_BACKWARD = 3  # a training step is a forward pass and a backward pass of twice the work
_SIDE, _TURNS = 8192, 20


def gpu(bench: Bench) -> Answer:
    """Both networks: ours, timm as it comes, timm at its best, and the share of the peak that each reaches."""
    chip = call(role("gpu", "peak", networks=NETWORKS), cache=bench.fresh("cache"), folder=bench.work)
    if not chip["name"]:
        return {"rows": [], "facts": {"skipped": "no CUDA device on this machine"}, "runs": {}}
    rows: list[Answer] = []
    facts: Answer = {"gpu": chip}
    runs: Answer = {}
    for arch in NETWORKS:
        for kind, share in (("step", _BACKWARD), ("infer", 1)):
            found = _measured(bench, arch, kind, device="cuda")
            what = "training step" if kind == "step" else "forward pass"
            rows.append(row(f"{arch}, {what}", "images/s", numbers(found, "rate"), more=True))
            facts[f"{arch}, {what}, share of peak"] = {
                way: statistics.median(rates) * share * chip["flops"][arch] / chip["peak"]
                for way, rates in numbers(found, "rate").items()
            }
            runs |= {f"{arch}, {what}, {way}": answers for way, answers in found.items()}
    return {"rows": rows, "facts": facts, "runs": runs}


def _measured(bench: Bench, arch: str, kind: str, *, device: str) -> dict[str, list[Answer]]:
    common: Answer = {"batch": bench.sizes.gpu_batch, "seconds": bench.sizes.step_seconds}
    plain = common | {"arch": arch, "device": device}
    return in_turn(
        {
            "ours": lambda: bench.ours(kind, name=f"random:{arch}", **common),
            "plain": lambda: bench.plain(kind, **plain),
            "plain at its best": lambda: bench.plain(kind, **plain, best=True),
        },
        bench.sizes.repeats,
    )


def peak(*, networks: list[str]) -> Answer:
    """The GPU's name (empty without one), its peak, and the operations of a forward pass of one image by network."""
    import torch

    if not torch.cuda.is_available():
        return {"name": ""}
    name = torch.cuda.get_device_name()
    measured = product_rate("cuda", side=_SIDE)
    known = next((value for part, value in PEAKS.items() if part in name), None)
    return {
        "name": name,
        "peak": known or measured,
        "peak_from": "data sheet" if known else "a product of two large bfloat16 matrices",
        "measured_product": measured,
        "flops": {arch: flops(arch) for arch in networks},
    }


def product_rate(device: str, *, side: int) -> float:
    """Operations/s of the product of two bfloat16 matrices (side, side)."""
    import torch

    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    b = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    float((a @ b)[0, 0])
    began = time.perf_counter()
    for _ in range(_TURNS):
        c = a @ b
    float(c[0, 0])  # waits for the GPU
    return 2 * side**3 * _TURNS / (time.perf_counter() - began)


def flops(arch: str) -> int:
    """Operations of a forward pass of one image, without the head; a product and its sum are two."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network: Any = timm.create_model(arch, num_classes=0).eval()
    image = torch.zeros(1, 3, *network.pretrained_cfg["input_size"][1:])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return int(counter.get_total_flops())


if __name__ == "__main__":
    print(json.dumps({"peak": peak}[sys.argv[1]](**json.loads(sys.argv[2]))))
