"""Images and labels: read, scanned, split and described before any network sees them."""

from headstart.data.describe import describe
from headstart.data.find import find_images
from headstart.data.images import open_rgb
from headstart.data.load import from_arrays, load, load_labelled
from headstart.data.preprocess import Preprocess
from headstart.data.records import Dataset, DatasetFacts, LoadOptions, Sample

__all__ = [
    "Dataset",
    "DatasetFacts",
    "LoadOptions",
    "Preprocess",
    "Sample",
    "describe",
    "find_images",
    "from_arrays",
    "load",
    "load_labelled",
    "open_rgb",
]
