"""`ENGINES`: the runtimes that can do a frozen forward pass, the fastest first, the reference last."""

from __future__ import annotations

from dataclasses import dataclass

from headstart._core.table import Table, load
from headstart.compute.records import Job, Runner


@dataclass(frozen=True)
class Engine:
    """A row of `ENGINES`.

    Attributes:
        name: as it is shown.
        summary: one line.
        precision: `float32`, `bfloat16`, `float16`, or `mixed`: float32 first, 16 bit behind.
        package: what it needs to be installed.
        check: dotted path of a function that gives the reason why it cannot be used here, or an empty string.
        opener: dotted path of the function that turns a `Job` into a `Runner`.
        compiles: whether opening it costs seconds, which few images do not pay back.
    """

    name: str
    summary: str
    precision: str
    package: str
    check: str
    opener: str
    compiles: bool = False

    def available(self) -> str:
        """Why it cannot be used on this machine, or an empty string."""
        reason: str = load(self.check)()
        return reason

    def open(self, job: Job) -> Runner:
        """The network ready to answer."""
        runner: Runner = load(self.opener)(job)
        return runner


_TORCH, _OPENVINO = "headstart.compute.with_torch", "headstart.compute.with_openvino"

REFERENCE = "torch"
"""The engine that all others are measured against."""

ENGINES: Table[Engine] = Table(
    "engine",
    {
        row.name: row
        for row in (
            Engine(
                name="torch-cuda-fp16",
                summary="NVIDIA GPU: channels-last, 16 bit (11 of precision), compiled for long runs",
                precision="float16",
                package="torch",
                check=f"{_TORCH}:why_not_cuda",
                opener=f"{_TORCH}:open_cuda_fp16",
            ),
            Engine(
                name="torch-cuda-bf16",
                summary="NVIDIA GPU: the same with 8 bits of precision and a wider range",
                precision="bfloat16",
                package="torch",
                check=f"{_TORCH}:why_not_cuda_bf16",
                opener=f"{_TORCH}:open_cuda_bf16",
            ),
            Engine(
                name="torch-cuda",
                summary="NVIDIA GPU: channels-last, 32 bit, compiled for long runs",
                precision="float32",
                package="torch",
                check=f"{_TORCH}:why_not_cuda",
                opener=f"{_TORCH}:open_cuda_f32",
            ),
            Engine(
                name="torch-mps",
                summary="Apple GPU, eager torch in 32 bit",
                precision="float32",
                package="torch",
                check=f"{_TORCH}:why_not_mps",
                opener=f"{_TORCH}:open_mps",
            ),
            Engine(
                name="openvino-bf16",
                summary="CPU with 16-bit arithmetic, OpenVINO",
                precision="bfloat16",
                package="openvino",
                check=f"{_OPENVINO}:why_not_bf16",
                opener=f"{_OPENVINO}:open_bf16",
                compiles=True,
            ),
            Engine(
                name="openvino-mixed",
                summary="the same with the first quarter of the layers in 32 bit",
                precision="mixed",
                package="openvino",
                check=f"{_OPENVINO}:why_not_bf16",
                opener=f"{_OPENVINO}:open_mixed",
                compiles=True,
            ),
            Engine(
                name="openvino",
                summary="CPU, OpenVINO in 32 bit",
                precision="float32",
                package="openvino",
                check=f"{_OPENVINO}:why_not",
                opener=f"{_OPENVINO}:open_f32",
                compiles=True,
            ),
            Engine(
                name=REFERENCE,
                summary="eager torch in 32 bit on the CPU: the reference",
                precision="float32",
                package="torch",
                check=f"{_TORCH}:why_not_torch",
                opener=f"{_TORCH}:open_reference",
            ),
        )
    },
)
