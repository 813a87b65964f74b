"""Forward passes of frozen networks, and what the machine can do."""

from headstart.compute.allocator import keep_memory
from headstart.compute.depths import OUTPUT, DepthClassifier, Depths, Tap, at_depths, columns, trimmed
from headstart.compute.depthwise import FastDepthwise
from headstart.compute.engines import ENGINES, REFERENCE
from headstart.compute.forward import BATCH, Stopped, device, forward, native_bfloat16
from headstart.compute.kept import content_hash
from headstart.compute.network import FEW, Network, choose, diagnose, few, flops, open_network, run, stream
from headstart.compute.records import Chosen, Tried

__all__ = [
    "BATCH",
    "ENGINES",
    "FEW",
    "OUTPUT",
    "REFERENCE",
    "Chosen",
    "DepthClassifier",
    "Depths",
    "FastDepthwise",
    "Network",
    "Stopped",
    "Tap",
    "Tried",
    "at_depths",
    "choose",
    "columns",
    "content_hash",
    "device",
    "diagnose",
    "few",
    "flops",
    "forward",
    "keep_memory",
    "native_bfloat16",
    "open_network",
    "run",
    "stream",
    "trimmed",
]
