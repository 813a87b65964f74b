"""Forward passes of frozen networks, and what the machine can do."""

from headstart.compute.allocator import keep_memory
from headstart.compute.forward import BATCH, Stopped, device, forward

__all__ = ["BATCH", "Stopped", "device", "forward", "keep_memory"]
