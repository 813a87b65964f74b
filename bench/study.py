"""`headstart study scratch` on folders of images, its figures kept as JSON, Markdown and a drawing.

    python bench/study.py FOLDER/bccd:128:4 FOLDER/camvid:96:5 --widen 0 --work WORK --out bench/results/study

Each set is FOLDER:SIZE:EPOCHS: the long side of the frame in pixels, and the epochs of the 1x schedule; half and all of its
training images, 1x, 2x and 3x. WORK holds the studies' own folders: a bench that was interrupted goes on there. With
`--budget 1s` what is complete by now is written. `--widen N` (usual: 2) is how many rates are tried beyond an end of the
list where the best one lies there; what a bench without it has trained is kept. NAME.json is the study's `study.json` with
the set's name instead of its path, and what else was running on the machine (`load_before`).
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart._core import records
from headstart._core.files import write_text
from headstart.compute import keep_memory
from headstart.data.records import LoadOptions
from headstart.reporting.study_page import study_context
from headstart.studies import STUDIES, StudyOptions
from headstart.studies.run import run

NAME = "scratch"
PANEL, GAP, HEAD = (420, 270), 40, 66
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5a6268; } .title { font-size: 15px; font-weight: 600; fill: #1d2226; }
.grid { stroke: #dcddd7; } .stroke { fill: none; stroke-width: 2; } .stroke.muted { stroke-width: 1.4; }
.accent { stroke: #0f6b5c; } .warm { stroke: #a8430f; } .muted { stroke: #6a7278; } .fill, .band { stroke: none; }
.fill.accent, .band.accent { fill: #0f6b5c; } .fill.warm, .band.warm { fill: #a8430f; } .band { opacity: .16; }
"""


def drawing(result: Mapping[str, Any]) -> str:
    """The charts by length of training side by side as one SVG file, readable without the page's style."""
    arms = [{"name": arm.name, "words": arm.words, "tone": arm.tone} for arm in STUDIES[NAME].arms]
    panels = study_context(result, arms)["panels"]
    width, height = len(panels) * (PANEL[0] + GAP) + GAP, HEAD + PANEL[1] + 20
    parts = [f'<rect width="{width}" height="{height}" fill="#fdfdfb"/>']
    for place, arm in enumerate(arms):
        x = GAP + 190 * place
        parts.append(f'<circle class="fill {arm["tone"]}" cx="{x + 6}" cy="48" r="6"/>')
        parts.append(f'<text x="{x + 20}" y="52">{arm["words"]}</text>')
    for place, panel in enumerate(panels):
        x = GAP + place * (PANEL[0] + GAP)
        chart = re.search(r"<svg .*</svg>", str(panel["chart"]), re.DOTALL)
        assert chart is not None
        parts.append(f'<text class="title" x="{x}" y="26">{panel["title"]}</text>')
        size = f'<svg x="{x}" y="{HEAD}" width="{PANEL[0]}" height="{PANEL[1]}" '
        parts.append(chart.group().replace("<svg ", size, 1))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return f"{head}<style>{STYLE}</style>{''.join(parts)}</svg>\n"


def measured(asked: str, work: Path, budget: str, *, widen: int = 0) -> tuple[str, dict[str, Any], str]:
    """A set's name, its figures without paths of this machine, and the study's own Markdown."""
    place, size, epochs = asked.rsplit(":", 2)
    source = Path(place)
    load = os.getloadavg()[0]
    options = StudyOptions(
        input_size=int(size), epochs=int(epochs), budget=budget, widen=widen, out=str(work / source.name)
    )
    done = run(NAME, source, options, LoadOptions())
    settings = replace(done.result.settings, source=source.name)
    plain = records.to_plain(replace(done.result, settings=settings)) | {"load_before": load}
    return source.name, plain, (done.folder / "study.md").read_text(encoding="utf-8")


def main(words: Sequence[str] | None = None) -> None:
    """Write NAME.json, NAME.md and NAME.svg of each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="FOLDER:SIZE:EPOCHS")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="none")
    parser.add_argument("--widen", type=int, default=2)
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_memory()
    for asked in given.sets:
        name, plain, card = measured(asked, given.work, given.budget, widen=given.widen)
        write_text(given.out / f"{name}.json", records.dumps(plain) + "\n")
        write_text(given.out / f"{name}.md", card)
        write_text(given.out / f"{name}.svg", drawing(plain))
        print(f"{name}: {plain['finding']}")


if __name__ == "__main__":
    main()
