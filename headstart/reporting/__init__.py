"""The run folder as one page to read: `report.html`, and as a model card: `report.md`."""

from headstart.reporting.write import write_report

__all__ = ["write_report"]
