"""The plain way: what one writes with timm, Pillow, torch and scikit-learn as they come. Nothing of headstart is used.

    python -m bench.plain ROLE JSON

The last line of the output is the role's answer as JSON.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # imports are part of the plain way too

import ctypes  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench.inputs import labelled, photos  # noqa: E402
from bench.measure import peak_mb  # noqa: E402

Answer = dict[str, Any]

BATCH, WORKERS = 32, 2


def features(*, folder: str, weights: str, arch: str, out: str = "") -> Answer:
    """Seconds of an eager pass over a folder; the features (N, width) and names go to `out`."""
    extractor = Extractor(weights, arch)
    began = time.perf_counter()
    paths = photos(Path(folder))
    found = extractor(paths)
    seconds = time.perf_counter() - began
    if out:
        np.savez(out, features=found, names=[path.relative_to(folder).as_posix() for path in paths])
    return {
        "images": len(paths),
        "seconds": seconds,
        "rate": len(paths) / seconds,
        "import_s": began - STARTED,
    }


class Extractor:
    """timm's network without its head, its transforms, and a loader with two workers, batch 32."""

    def __init__(self, weights: str, arch: str) -> None:
        import timm
        from safetensors.torch import load_file
        from timm.data.config import resolve_data_config
        from timm.data.transforms_factory import create_transform

        self.network = timm.create_model(arch, num_classes=0)
        self.network.load_state_dict(load_file(weights))
        self.network.eval()
        config = resolve_data_config(self.network.pretrained_cfg)  # type: ignore[no-untyped-call]
        self.transform = create_transform(**config, is_training=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        from PIL import Image

        return self.transform(Image.open(self.paths[number]).convert("RGB"))

    def __call__(self, paths: list[Path]) -> NDArray[np.float32]:
        """Features (N, width)."""
        import torch

        self.paths = paths
        loader: Any = torch.utils.data.DataLoader(self, batch_size=BATCH, num_workers=WORKERS)  # type: ignore[arg-type]
        with torch.inference_mode():
            out: NDArray[np.float32] = torch.cat([self.network(images) for images in loader]).numpy()
        return out


def probe(*, folder: str, weights: str, arch: str) -> Answer:
    """Seconds and right answers of a logistic regression on features from an eager pass."""
    extractor = Extractor(weights, arch)
    from sklearn.linear_model import LogisticRegression

    imported = time.perf_counter()
    paths = photos(Path(folder))
    found = labelled(paths, Path(folder))
    truth, tested = np.array(found.labels), np.array(found.tested)
    train = extractor([path for path, test in zip(paths, found.tested, strict=True) if not test])
    passed = time.perf_counter()
    head = LogisticRegression(C=1.0, max_iter=1000).fit(train, truth[~tested])
    fitted = time.perf_counter()
    answers = head.predict(extractor([path for path, test in zip(paths, found.tested, strict=True) if test]))
    correct = int((answers == truth[tested]).sum())
    return {
        "import_s": imported - STARTED,
        "forward_s": passed - imported,
        "head_s": fitted - passed,
        "evaluate_s": time.perf_counter() - fitted,
        "correct": correct,
        "tested": int(tested.sum()),
        "accuracy": correct / int(tested.sum()),
    }


def keep_memory() -> None:
    """Tell glibc to keep freed memory, as `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1` does."""
    if sys.platform == "linux":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0), mallopt(-1, 2**31 - 1)


def step(
    *, arch: str, batch: int, seconds: float, best: bool = False, device: str = "cpu", classes: int = 10
) -> Answer:
    """Images/s of training steps of the whole network on images in memory.

    Args:
        arch: timm's name.
        batch: images a step.
        seconds: to measure for.
        best: in bfloat16, channels-last, with a fused optimiser and the allocator kept; else as it comes.
        device: where.
        classes: of the head.
    """
    import timm
    import torch

    if best:
        keep_memory()
    torch.manual_seed(0)
    network: Any = timm.create_model(arch, num_classes=classes).to(device).train()
    images = torch.randn(batch, 3, *network.pretrained_cfg["input_size"][1:])
    if best:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    targets = (torch.arange(batch) % classes).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.05, fused=best)

    def one() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=best):
            loss = torch.nn.functional.cross_entropy(
                network(images.to(device, non_blocking=True)), targets, label_smoothing=0.1
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return timed(
        one, lambda losses: torch.stack(losses).tolist(), batch=batch, seconds=seconds, device=device
    )


def timed(one: Any, settle: Any, *, batch: int, seconds: float, device: str) -> Answer:
    """Images/s of calls of `one`, after two that do not count; `settle` waits for what they returned.

    On a GPU ten calls are waited for together, so that it need not stop after each.
    """
    block = 1 if device == "cpu" else 10
    settle([one() for _ in range(2)])
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        at = time.perf_counter()
        settle([one() for _ in range(block)])
        times.append((time.perf_counter() - at) / block)
    return {"rate": batch / float(np.median(times)), "steps": block * len(times), "step_s": times}


def infer(*, arch: str, batch: int, seconds: float, best: bool = False, device: str = "cpu") -> Answer:
    """Images/s of forward passes of images that lie in the host's memory; arguments as for `step`."""
    import timm
    import torch

    torch.manual_seed(0)
    network: Any = timm.create_model(arch, num_classes=0).to(device).eval()
    images = torch.randn(batch, 3, *network.pretrained_cfg["input_size"][1:])
    if best:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    if device == "cuda":
        images = images.pin_memory()

    def one() -> Any:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=best):
            return network(images.to(device, non_blocking=True)).float().cpu()

    return timed(one, lambda _: None, batch=batch, seconds=seconds, device=device)


CLASSES_APART = 0.8  # a ridge probe is right on 80 % of 4000 rows of 100 classes


def head_data(
    *, rows: int, width: int, classes: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (rows, width) and class numbers (rows,) of unit mean variance, as hard to solve for as a network's.

    Variance falls as 1/k along the k-th direction, classes differ most in the first of them, and a ReLU leaves two fifths
    zeros: effectively 36 directions, where Lite0's features of CIFAR-10 have 72 and of crops of 100 photos 96.
    """
    rng = np.random.default_rng(seed)
    falling = np.arange(1, width + 1) ** -0.5
    centres = rng.normal(0, CLASSES_APART, (classes, width)) * falling**0.5
    truth = rng.integers(0, classes, rows)
    inner = ((centres[truth] + rng.normal(0, 1, (rows, width))) * falling).astype(np.float32)
    turn = rng.normal(0, 1 / np.linalg.norm(falling), (width, width)).astype(np.float32)
    values = np.maximum(inner @ turn + 0.25, 0)
    return values / np.sqrt(values.var(0).mean()), truth


def logistic(*, rows: int, width: int, classes: int, folds: int, seed: int) -> Answer:
    """Seconds of scikit-learn's logistic regression for one strength on one fold's training rows, and its accuracy."""
    from sklearn.linear_model import LogisticRegression

    values, truth = head_data(rows=rows, width=width, classes=classes, seed=seed)
    held = rows // folds
    began = time.perf_counter()
    head = LogisticRegression(C=0.1, max_iter=1000).fit(values[held:], truth[held:])
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "accuracy": float((head.predict(values[:held]) == truth[:held]).mean())}


def ridge(*, rows: int, width: int, classes: int, folds: int, seed: int, strengths: int) -> Answer:
    """Seconds of scikit-learn's ridge classifier for all strengths, by leave-one-out, and a held-out accuracy."""
    from sklearn.linear_model import RidgeClassifierCV

    values, truth = head_data(rows=rows, width=width, classes=classes, seed=seed)
    held = rows // folds
    began = time.perf_counter()
    head = RidgeClassifierCV(alphas=np.logspace(-1, 5, strengths)).fit(values[held:], truth[held:])
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "accuracy": float((head.predict(values[:held]) == truth[:held]).mean())}


ROLES = {each.__name__: each for each in (features, probe, step, infer, logistic, ridge)}

if __name__ == "__main__":
    found = ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps({"peak_mb": peak_mb()} | found))
