"""From files to pixels: the preprocessing contract, augmentation, and batches read ahead by threads."""

from headstart.pixels.augment import PRESETS, Augment, Chances, augmented_pixels
from headstart.pixels.batches import Batch, Example, ahead, batches, cpus, in_order, together
from headstart.pixels.contract import contract_pixels, normalise
from headstart.pixels.decode import read_pixels
from headstart.pixels.draw import beside, index_png, with_boxes, with_mask
from headstart.pixels.scenes import (
    Scene,
    decoded_scene,
    original_boxes,
    read_scene,
    truth_boxes,
    varied_scene,
)

__all__ = [
    "PRESETS",
    "Augment",
    "Batch",
    "Chances",
    "Example",
    "Scene",
    "ahead",
    "augmented_pixels",
    "batches",
    "beside",
    "contract_pixels",
    "cpus",
    "decoded_scene",
    "in_order",
    "index_png",
    "normalise",
    "original_boxes",
    "read_pixels",
    "read_scene",
    "together",
    "truth_boxes",
    "varied_scene",
    "with_boxes",
    "with_mask",
]
