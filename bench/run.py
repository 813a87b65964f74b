"""Every benchmark, or some of them: JSON for each case and one Markdown table.

    python bench/run.py [--data FOLDER] [--quick] [--only CASE,...] [--out FOLDER] [--again]

A case that is finished is kept (its JSON says with which settings) until --again; so an interrupted bench goes on where it
was. bench/README.md says what each case does.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in the place of bench/ itself
    from bench.command import main

    sys.exit(main(sys.argv[1:]))
