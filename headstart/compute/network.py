"""A frozen network in the fastest runtime that agrees with the reference, and passes of many images through it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart._core.clock import Clock
from headstart._core.errors import BadInput
from headstart._core.progress import track
from headstart.compute import gate, kept
from headstart.compute.engines import ENGINES, REFERENCE
from headstart.compute.forward import Stopped, device
from headstart.compute.records import Chosen, Job, Outputs, Pixels, Runner
from headstart.compute.taps import read_depths
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import Batch, ahead, batches, in_order, on_gpu, read_pixels, together
from headstart.pixels.batches import Loader
from headstart.weights import Backbone

TRIAL = 32
"""Images of the gate's trial: the user's first ones."""

WORTH_COMPILING = 400e9
"""Floating-point operations of all images together below which a processor computes by eager torch.

Tracing, compiling and the trial cost two to three seconds; eager torch does 130 GFLOP/s or more on two cores, OpenVINO
twice that: 500 images of EfficientNet-Lite0, 50 of ResNet-50."""

FEW = 2 * TRIAL
"""Images below which nothing is compiled, however large the network: the trial would be half of the work."""

_AHEAD = 2  # batches handed to the runner beyond its lanes, so that none waits for this thread


class Network:
    """A frozen network ready to answer; its runtime is opened at the first call, which a full cache never makes.

    Attributes:
        chosen: the runtime and why.
        preprocess: the contract of its input.
        outputs: what a call returns, in order: `output` (the network's own) and the depths.
    """

    def __init__(self, job: Job, chosen: Chosen, runner: Runner | None = None) -> None:
        self.chosen = chosen
        self.preprocess = job.preprocess
        self.outputs = ("output", *job.readings)
        self._job = job
        self._runner = runner
        self._opening = threading.Lock()

    @property
    def precision(self) -> str:
        """`float32`, `bfloat16`, `float16` or `mixed`."""
        return self.chosen.precision

    @property
    def runner(self) -> Runner:
        """What answers."""
        with self._opening:
            if self._runner is None:
                self._runner = ENGINES[self.chosen.engine].open(self._job)
                self._job.shared.clear()
            return self._runner

    def __call__(self, pixels: Pixels) -> Outputs:
        """The network's output (N, outputs) and for each depth mean and deviation (N, 2 * C), float32.

        Args:
            pixels: contract pixels (N, height, width, 3), 8-bit, any N >= 1.
        """
        return gate.run_in_pieces(self.runner, pixels)


def open_network(
    source: Backbone | nn.Module,
    preprocess: Preprocess,
    *,
    depths: Sequence[str] = (),
    engine: str = REFERENCE,
) -> Network:
    """The network in the runtime of that name, without a trial.

    Args:
        source: a backbone, or a network in evaluation mode.
        preprocess: the contract of its input.
        depths: dotted names of modules whose outputs are wanted too: `Stage.output` of the backbone's stages.
        engine: a name of `ENGINES`.

    Raises:
        BadOption: for an unknown engine or depth.
        BadInput: for an engine that this machine does not have.
    """
    row = ENGINES[engine]
    reason = row.available()
    if reason:
        raise BadInput(f"The engine {engine!r} cannot be used: {reason}.", hint="See: headstart doctor")
    job = _job(source, preprocess, tuple(depths), count=0)
    return Network(job, Chosen(engine=engine, precision=row.precision, reason="asked for"))


def choose(
    source: Backbone | nn.Module,
    samples: Sequence[Sample],
    preprocess: Preprocess,
    *,
    depths: Sequence[str] = (),
    passes: int = 0,
) -> Network:
    """The network in the fastest runtime that agrees with eager float32 on the first of these images.

    The verdict is kept on disk with the compiled network: the next start needs neither tracing nor a trial. Few images
    do not pay for compiling; they are computed by torch.

    Args:
        source: a backbone (its pretraining classifier, where there is one, judges the trial too), or a network in
            evaluation mode whose outputs are logits.
        samples: all images that will be asked for, those that a cache may hold included; their number decides.
        preprocess: the contract of its input.
        depths: dotted names of modules whose outputs are wanted too.
        passes: how often an image will go through, where that is more than once each (augmented views).

    Raises:
        BadOption: for an unknown depth.
    """
    folder = kept.folder_of(_module(source), preprocess, tuple(depths))
    job = _job(source, preprocess, tuple(depths), count=max(len(samples), passes), folder=folder)
    if few(source, preprocess, count=job.count):
        # Even where a compiled network is kept: what few images are answered must not depend on who was here before.
        return Network(job, _reference(f"{len(samples)} images do not pay for compiling"))
    chosen = kept.load_verdict(folder)
    if chosen is not None:
        return Network(job, chosen)
    pixels = _first(samples, preprocess)
    if pixels is None:
        return Network(job, _reference("no readable image to try"))
    chosen, runner = gate.contest(job, pixels, _judge(source))
    if not on_gpu.why_not():
        chosen = _with_decoder(chosen, samples, preprocess)
    job.shared.clear()
    kept.save_verdict(folder, chosen)
    return Network(job, chosen, runner)


def diagnose(source: Backbone, pixels: Pixels) -> Chosen:
    """The verdict on this backbone that real images left on this machine, else one made now on these, and not kept.

    Args:
        source: a backbone.
        pixels: contract pixels (N, height, width, 3) that stand in for the user's images.
    """
    preprocess = source.info.preprocess
    chosen = kept.load_verdict(kept.folder_of(source.module, preprocess, ()))
    if chosen is None:
        chosen, _ = gate.contest(_job(source, preprocess, (), count=len(pixels)), pixels, _judge(source))
    return chosen


def stream(
    network: Network,
    samples: Sequence[Sample],
    *,
    label: str,
    clock: Clock | None = None,
    loader: Loader | None = None,
) -> Iterator[tuple[tuple[int, ...], Outputs]]:
    """(positions, outputs) batch by batch, in order; decoding, computing and the caller overlap, in constant memory.

    Args:
        network: what is computed.
        samples: on which images.
        label: of the progress bar.
        clock: says when to end.
        loader: makes the pixels of a sample; without one, the contract's.

    Raises:
        Stopped: when somebody asked for an end; the time budget alone does not end a pass.
        Undecodable: for a file that cannot be read.
    """
    runner = network.runner
    windows = _windows(network, samples, loader)
    results = ahead(
        lambda batch: (batch.positions, runner(batch.rows)),
        windows,
        workers=runner.lanes,
        waiting=runner.lanes + _AHEAD,
    )
    with closing(windows), closing(results):
        for result in track(results, label=label, total=len(samples), weight=runner.batch):
            if clock is not None and clock.stop_reason:
                raise Stopped(clock.stop_reason)
            yield result


def _windows(network: Network, samples: Sequence[Sample], loader: Loader | None) -> Generator[Batch]:
    """Batches of pixels, read ahead by what the verdict names."""
    contract, groups = network.preprocess, in_order(len(samples), network.runner.batch)
    if loader is None and network.chosen.decoder == "gpu":
        return together(
            samples,
            lambda group: on_gpu.read_together([sample.source for sample in group], contract),
            groups=groups,
        )
    return batches(samples, loader or (lambda _, sample: read_pixels(sample.source, contract)), groups=groups)


def run(
    network: Network, samples: Sequence[Sample], *, label: str, clock: Clock | None = None
) -> tuple[NDArray[np.float32], ...]:
    """One float32 array for each of `network.outputs`, row by row those of the samples.

    Raises:
        Stopped: when somebody asked for an end.
        BadInput: for no samples at all.
        Undecodable: for a file that cannot be read.
    """
    if not samples:
        raise BadInput("There are no images to compute.", hint="Give at least one.")
    out: tuple[NDArray[np.float32], ...] = ()
    for positions, found in stream(network, samples, label=label, clock=clock):
        if not out:
            out = tuple(np.empty((len(samples), each.shape[1]), np.float32) for each in found)
        for whole, part in zip(out, found, strict=True):
            whole[list(positions)] = part
    return out


def _module(source: Backbone | nn.Module) -> nn.Module:
    return source.module if isinstance(source, Backbone) else source


def _job(
    source: Backbone | nn.Module, preprocess: Preprocess, depths: tuple[str, ...], **more: object
) -> Job:
    network = _module(source).eval()
    readings = read_depths(network, preprocess, depths) if depths else {}
    return Job(network=network, preprocess=preprocess, readings=readings, **more)  # type: ignore[arg-type]


def _reference(reason: str) -> Chosen:
    return Chosen(engine=REFERENCE, precision=ENGINES[REFERENCE].precision, reason=reason)


def few(source: Backbone | nn.Module, preprocess: Preprocess, *, count: int) -> bool:
    """Whether a processor computes so many images by eager torch; the same for the same images on any machine.

    Args:
        source: a backbone or a network.
        preprocess: the contract of its input.
        count: of images, views included.
    """
    if device().type != "cpu":
        return False
    return count < FEW or count * flops(_module(source).eval(), preprocess) < WORTH_COMPILING


def flops(network: nn.Module, preprocess: Preprocess) -> int:
    """Operations of the convolutions and linear layers in one pass over one image: two for each multiply-add.

    Counted by hooks: torch's own counter takes a second to start, more than the pass it is asked about.
    """
    total = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        places = output.numel() // weight.shape[0]
        total += 2 * weight.numel() * places

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    handles = [each.register_forward_hook(count) for each in network.modules() if isinstance(each, kinds)]
    where = next(network.parameters()).device
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, preprocess.height, preprocess.width, device=where))
    finally:
        for handle in handles:
            handle.remove()
    return total


def _judge(source: Backbone | nn.Module) -> gate.Judge | None:
    """From the network's own output to logits; None where nothing classifies."""
    if not isinstance(source, Backbone):
        return lambda output: output
    if not isinstance(source.classifier, nn.Linear):
        return None
    weight = source.classifier.weight.detach().cpu().numpy()
    bias = 0 if source.classifier.bias is None else source.classifier.bias.detach().cpu().numpy()
    return lambda output: output @ weight.T + bias


def _with_decoder(chosen: Chosen, samples: Sequence[Sample], preprocess: Preprocess) -> Chosen:
    """The verdict, with what shall decode the files."""
    readable = [sample.source for sample in samples[:TRIAL] if not isinstance(sample.source, np.ndarray)]
    try:
        verdict = on_gpu.try_out(readable, preprocess)
    except BadInput:  # a file among the first that cannot be read; the pass says so
        verdict = on_gpu.Verdict(used=False, reason="one of the first images cannot be read")
    return replace(chosen, decoder="gpu" if verdict.used else "cpu", decoder_reason=verdict.reason)


def _first(samples: Sequence[Sample], preprocess: Preprocess) -> Pixels | None:
    """Contract pixels (up to `TRIAL`, height, width, 3) of the first readable images; None where there is none.

    Unreadable ones are passed over here; whoever needs them learns of them in the pass.
    """
    out: list[NDArray[np.uint8]] = []
    for sample in samples[: 2 * TRIAL]:
        try:
            out.append(read_pixels(sample.source, preprocess))
        except BadInput:
            continue
        if len(out) == TRIAL:
            break
    return np.stack(out) if out else None
