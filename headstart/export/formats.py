"""The table of file formats that a bundle can be exported to."""

from __future__ import annotations

from headstart._core.table import Table
from headstart.export.records import Format

FORMATS: Table[Format] = Table(
    "--format",
    {
        row.name: row
        for row in (
            Format(
                name="onnx",
                suffix=".onnx",
                summary="one graph from raw images to probabilities, for whatever runs ONNX",
                needs=("onnx", "onnxscript", "onnxruntime"),
                extra="onnx",
                write="headstart.export.onnx:write",
                open="headstart.export.onnx:open_runner",
                places="headstart.export.places",
            ),
        )
    },
)
