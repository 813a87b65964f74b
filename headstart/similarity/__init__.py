"""How far images lie from what a network was pretrained on, at every depth, without the source's images."""

from headstart.similarity.distance import (
    LIMIT,
    Distance,
    class_weights,
    distance_of,
    domain_distance,
    even_choice,
    symmetric_kl,
)
from headstart.similarity.moments import Beside, Moments, Place, image_moments
from headstart.similarity.reference import (
    Reference,
    batchnorm_reference,
    load_reference,
    reference_of,
    reference_statistics,
    save_reference,
)
from headstart.similarity.scale import CLOSE, FAR, KNOWN, KnownDomain, Standing, standing

__all__ = [
    "CLOSE",
    "FAR",
    "KNOWN",
    "LIMIT",
    "Beside",
    "Distance",
    "KnownDomain",
    "Moments",
    "Place",
    "Reference",
    "Standing",
    "batchnorm_reference",
    "class_weights",
    "distance_of",
    "domain_distance",
    "even_choice",
    "image_moments",
    "load_reference",
    "reference_of",
    "reference_statistics",
    "save_reference",
    "standing",
    "symmetric_kl",
]
