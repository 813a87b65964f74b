"""Readers: every way to hand over labelled images, one file each."""

from headstart._core.table import Table
from headstart.data.readers import (
    boxes_csv,
    coco,
    digits,
    folders,
    mask_folders,
    table_csv,
    table_parquet,
    torchvision_sets,
    voc,
    yolo,
)
from headstart.data.readers.records import Listing, Reader

READERS: Table[Reader] = Table(
    "data",
    {
        row.name: row
        for row in (
            # Names that are built in come first: a folder of the same name is reached as ./NAME.
            digits.READER,
            torchvision_sets.READER,
            # Before the general ones: folders and tables in which a more special kind is to be seen.
            yolo.READER,
            coco.READER,
            voc.READER,
            mask_folders.READER,
            folders.READER,
            boxes_csv.READER,
            table_csv.READER,
            table_parquet.READER,
        )
    },
)

__all__ = ["READERS", "Listing", "Reader"]
