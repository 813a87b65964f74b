"""`write_report`: the run folder's files in, `report.html` and `report.md` out. It only lays out."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from headstart._core.files import write_text
from headstart.reporting import results, sections
from headstart.reporting.audit_section import audit_section
from headstart.reporting.folder import RunFolder, read_run
from headstart.reporting.places_section import places_section
from headstart.reporting.planning_section import planning_section
from headstart.reporting.ranking_section import ranking_section
from headstart.reporting.trust_section import abstaining_section, selection_note, slices_section
from headstart.reporting.wording import MISSING

_MARKDOWN = re.compile(r"([\\`*_\[\]|#~$])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class _NotRecorded(ChainableUndefined):
    """A value that no file holds."""

    def __str__(self) -> str:
        return MISSING


def write_report(run: Path) -> Path:
    """The path of `report.html`, made from the run folder's files, with the model card `report.md` beside it.

    The page is one file that works offline: pictures are inside, there is no script, and its content-security
    policy forbids the browser to load anything. A file that is missing leaves `not recorded` in its place.

    Raises:
        BadInput: when the folder is no run folder, one of its files is damaged, or it cannot be written to.
    """
    folder = read_run(Path(run))
    context = page_context(folder)
    css = resources.files("headstart.reporting").joinpath("report.css").read_text(encoding="utf-8")
    style = Markup(css)  # noqa: S704  # our own file
    page = environment(markdown=False).get_template("report.html.jinja").render(context, css=style)
    card = environment(markdown=True).get_template("card.md.jinja").render(context)
    target = folder.path / "report.html"
    write_text(target, encodable(page))
    write_text(folder.path / "report.md", encodable(card).replace("\u00a0", " ").replace("\u2060", ""))
    return target


def page_context(run: RunFolder) -> dict[str, Any]:
    """Everything the templates lay out, by section."""
    return {
        "name": run.path.resolve().name,
        "task": run.task,
        "classes": run.classes,
        "verdict": results.verdict(run),
        "tiles": results.tiles(run),
        "decisions": sections.decisions_section(run),
        "weights": ranking_section(run),
        "planning": planning_section(run),
        "data": sections.data_section(run),
        "audit": audit_section(run),
        "accuracy": results.accuracy_section(run),
        "confusion": results.confusion_section(run),
        "per_class": results.classes_section(run),
        "reliability": results.reliability_section(run),
        "abstaining": abstaining_section(run),
        "slices": slices_section(run),
        "places": places_section(run),
        "selection": selection_note(run),
        "watched": bool(run.manifest.get("novelty")),
        "curves": sections.curves_section(run),
        "mistakes": results.mistakes_section(run),
        "ledger": sections.ledger_section(run),
        "contract": sections.contract_section(run),
        "licences": sections.licence_section(run),
        "environment": sections.environment_section(run),
        "use": sections.use_section(run),
    }


@cache
def environment(*, markdown: bool) -> Environment:
    """Jinja with escaping on: HTML's for the page; for the card a filter over every value that is put in."""
    made = Environment(
        loader=PackageLoader("headstart", "reporting"),
        autoescape=not markdown,  # noqa: S701  # the card has an escape of its own: finalize
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=_NotRecorded,
        finalize=escape_markdown if markdown else _shown,
    )
    if markdown:
        made.filters["code"] = code
        made.filters["yaml"] = yaml_text
    return made


def _shown(value: Any) -> Any:
    return MISSING if value is None else value


def escape_markdown(value: Any) -> str:
    r"""A value as literal Markdown text on one line; text that is marked as ready passes as it is.

    >>> print(escape_markdown("a_b <script>"))
    a\_b &lt;script&gt;
    """
    if isinstance(value, Markup):
        return str(value)
    words = re.sub(r"[\r\n\t\v\f]", " ", str(_shown(value)))
    return _MARKDOWN.sub(r"\\\1", words.translate(_ENTITIES))


def code(value: Any) -> Markup:
    """A value as Markdown code on one line; backticks become apostrophes, bars are escaped for tables."""
    words = re.sub(r"\s", " ", str(value)).replace("`", "'").replace("|", r"\|")
    return Markup(f"`{words}`")  # noqa: S704  # code spans show every character as it is


def yaml_text(value: Any) -> Markup:
    """A value as a quoted YAML string."""
    words = re.sub(r"\s", " ", str(value)).replace("\\", "\\\\").replace('"', '\\"')
    return Markup(f'"{words}"')  # noqa: S704  # quoted as YAML asks


def encodable(words: str) -> str:
    """The text with what UTF-8 cannot hold (names of files in another encoding) spelled out."""
    return words.encode("utf-8", "backslashreplace").decode("utf-8")
