"""Pretrained weights: what is known of them, where they come from, and networks that name their own parts."""

from headstart.weights.catalog import catalog_rows
from headstart.weights.load import blank, info, load
from headstart.weights.maps import FeatureMap, cut_behind, feature_maps
from headstart.weights.reach import hub_reachable
from headstart.weights.records import Backbone, Stage, WeightsInfo
from headstart.weights.sources import SOURCES, on_this_machine

__all__ = [
    "SOURCES",
    "Backbone",
    "FeatureMap",
    "Stage",
    "WeightsInfo",
    "blank",
    "catalog_rows",
    "cut_behind",
    "feature_maps",
    "hub_reachable",
    "info",
    "load",
    "on_this_machine",
]
