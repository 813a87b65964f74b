"""What leaves the house: the bundle, formats to export it to, and the check that they answer alike."""

from headstart.export.bundle import Bundle, Manifest, machine, open_bundle, save_bundle, versions
from headstart.export.formats import FORMATS
from headstart.export.parity import check, export
from headstart.export.records import Exported, Format, Parity, Runner

__all__ = [
    "FORMATS",
    "Bundle",
    "Exported",
    "Format",
    "Manifest",
    "Parity",
    "Runner",
    "check",
    "export",
    "machine",
    "open_bundle",
    "save_bundle",
    "versions",
]
