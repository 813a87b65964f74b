"""From files to pixels: the preprocessing contract, augmentation, and batches read ahead by threads."""

from headstart.pixels.augment import PRESETS, Augment, augmented_pixels
from headstart.pixels.batches import Batch, ahead, batches, cpus, in_order
from headstart.pixels.contract import contract_pixels, normalise
from headstart.pixels.decode import read_pixels

__all__ = [
    "PRESETS",
    "Augment",
    "Batch",
    "ahead",
    "augmented_pixels",
    "batches",
    "contract_pixels",
    "cpus",
    "in_order",
    "normalise",
    "read_pixels",
]
