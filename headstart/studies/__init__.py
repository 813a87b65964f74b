"""Studies: questions about pretraining that one training cannot answer, each a row of `STUDIES`."""

from headstart._core.table import Table
from headstart.studies import scratch
from headstart.studies.records import Arm, Result, Study, StudyOptions

STUDIES: Table[Study] = Table("headstart study", {study.name: study for study in (scratch.STUDY,)})

__all__ = ["STUDIES", "Arm", "Result", "Study", "StudyOptions"]
