"""From files to pixels: the preprocessing contract, augmentation, and batches read ahead by threads."""

from headstart.pixels.augment import PRESETS, Augment, augmented_pixels
from headstart.pixels.batches import Batch, batches, in_order
from headstart.pixels.contract import contract_pixels, normalise

__all__ = [
    "PRESETS",
    "Augment",
    "Batch",
    "augmented_pixels",
    "batches",
    "contract_pixels",
    "in_order",
    "normalise",
]
