"""`write_study`: a study as one self-contained page, and its tables and its finding as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from headstart._core.files import write_text
from headstart.metrics import claims, wilson
from headstart.reporting import charts
from headstart.reporting.wording import (
    MetricWords,
    amount,
    duration,
    interval,
    metric_words,
    number,
    percent,
    plural,
    probability_value,
    rate,
    signed,
    text,
)
from headstart.reporting.write import encodable, environment

PAGE, CARD = "study.html", "study.md"
_TONES = {claims.BETTER: "good", claims.WORSE: "bad"}


def write_study(
    folder: Path, result: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], question: str
) -> Path:
    """The path of `study.html`; `study.md` lies beside it.

    Args:
        folder: of the study.
        result: what `study.json` holds.
        arms: `name`, `words` and `tone` of each.
        question: the headline.
    """
    context = study_context(result, arms) | {"question": question}
    css = resources.files("headstart.reporting").joinpath("report.css").read_text(encoding="utf-8")
    style = Markup(css)  # noqa: S704  # our own file
    page = environment(markdown=False).get_template("study.html.jinja").render(context, css=style)
    card = environment(markdown=True).get_template("study.md.jinja").render(context)
    write_text(folder / PAGE, encodable(page))
    write_text(folder / CARD, encodable(card).replace("\u00a0", " ").replace("\u2060", ""))
    return folder / PAGE


def study_context(result: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that the page lays out."""
    words, settings = metric_words(result["primary"]), result["settings"]
    sizes = list(dict.fromkeys((cell["fraction"], cell["images"]) for cell in result["cells"]))
    seeds = result["grid"]["seeds"]
    return {
        "name": text(settings["study"]),
        "source": text(Path(settings["source"]).name),
        "finding": result["finding"],
        "known": result["known"],
        "paper": result["source"],
        "left": result["left"],
        "metric": words.label,
        "meaning": words.meaning,
        "test": plural(result["test"], "test image"),
        "val": plural(result["val"], "validation image"),
        "train": number(result["train"]),
        "seeds": plural(len(seeds), "seed"),
        "arms": [arm["words"] for arm in arms],
        "panels": [_panel(result, arms, words, size) for size in sizes],
        "rows": [_row(cell, words) for cell in result["cells"]],
        "reaches": [_reach(entry, arms, words) for entry in result["reaches"]],
        "metrics": _metrics(result["cells"], arms),
        "tried": _tried(result, arms, words),
        "alike": _alike(settings),
        "own": _own(settings, arms),
        "machine": text(result["machine"]),
        "seconds": duration(result["seconds"]),
        "versions": text(result["versions"]),
    }


def _panel(
    result: Mapping[str, Any],
    arms: Sequence[Mapping[str, Any]],
    words: MetricWords,
    size: tuple[float, int],
) -> dict[str, Any]:
    """The two charts of one size of training set: by length of training, and by epoch on the validation images."""
    cells = [cell for cell in result["cells"] if cell["fraction"] == size[0]]
    lines, curves = [], []
    for place, arm in enumerate(arms):
        scores = [cell["arms"][place] for cell in cells]
        lines.append(
            charts.Line(
                name=arm["words"],
                points=tuple(
                    (cell["schedule"], score["value"]["value"])
                    for cell, score in zip(cells, scores, strict=True)
                ),
                tone=arm["tone"],
                dots=True,
                band=tuple((score["value"]["low"], score["value"]["high"]) for score in scores),
            )
        )
        curves += [
            charts.Line(
                name="" if number_ else arm["words"],  # one entry in the legend for all schedules of an arm
                points=tuple((point["epoch"], point["primary"]) for point in score["curves"][0]),
                tone=arm["tone"],
                band=tuple(_around(point["primary"], result["val"]) for point in score["curves"][0]),
            )
            for number_, score in enumerate(scores)
        ]
    level = next((entry for entry in result["reaches"] if entry["fraction"] == size[0]), None)
    if level is not None and len(cells) > 1:
        ends = (cells[0]["schedule"], cells[-1]["schedule"])
        name = f"{arms[0]['words']} at {level['base']}x"
        lines.append(
            charts.Line(name=name, points=tuple((end, level["level"]) for end in ends), tone="muted")
        )
    return {
        "title": f"{number(size[1])} training images ({percent(size[0], digits=0)})",
        "chart": charts.line_chart(
            lines, x=f"schedule, in multiples of {_one(cells)}", y=words.label, percent=words.share
        ),
        "curves": charts.line_chart(curves, x="epoch", y=words.label, percent=words.share),
    }


def _around(value: float, images: int) -> tuple[float, float]:
    """The 95 % interval of a mean of scores in [0, 1] over so many images."""
    return wilson(value * images, images)


def _one(cells: Sequence[Mapping[str, Any]]) -> str:
    return plural(cells[0]["epochs"] // cells[0]["schedule"], "epoch")


def _row(cell: Mapping[str, Any], words: MetricWords) -> dict[str, Any]:
    """A cell as a line of the table."""
    return {
        "images": f"{number(cell['images'])} ({percent(cell['fraction'], digits=0)})",
        "schedule": f"{cell['schedule']}x",
        "epochs": plural(cell["epochs"], "epoch"),
        "arms": [
            {
                "value": amount(score["value"]["value"], words),
                "interval": interval(score["value"]["low"], score["value"]["high"], words),
                "rate": rate(score["rate"]),
                "seconds": duration(score["seconds"]),
            }
            for score in cell["arms"]
        ],
        "pairs": [_pair(pair, words) for pair in cell["pairs"]],
    }


def _pair(pair: Mapping[str, Any], words: MetricWords) -> dict[str, str]:
    """A paired difference in figures and the one word that it allows."""
    ends = " to ".join(signed(pair[end], share=words.share) for end in ("low", "high"))
    return {
        "difference": signed(pair["difference"], share=words.share),
        "interval": ends,
        "p": probability_value(pair["p"]),
        "verdict": pair["verdict"],
        "tone": _TONES.get(pair["verdict"], "plain"),
    }


def _reach(entry: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], words: MetricWords) -> dict[str, Any]:
    """An arm at each schedule against the first arm's shortest."""
    name = {arm["name"]: arm["words"] for arm in arms}[entry["arm"]]
    return {
        "title": (
            f"{name[:1].upper()}{name[1:]} less {arms[0]['words']} at {entry['base']}x ({amount(entry['level'], words)}), "
            f"{plural(entry['images'], 'training image')}"
        ),
        "steps": [
            {"schedule": f"{schedule}x"} | _pair(pair, words)
            for schedule, pair in zip(entry["schedules"], entry["against"], strict=True)
        ],
    }


def _metrics(cells: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All metrics of the task of each arm in each cell."""
    names = list(dict.fromkeys(name for cell in cells for score in cell["arms"] for name in score["metrics"]))
    rows = [
        {
            "cell": f"{number(cell['images'])} images, {cell['schedule']}x",
            "arm": arm["words"],
            "values": [_metric(score["metrics"].get(name), metric_words(name)) for name in names],
        }
        for cell in cells
        for arm, score in zip(arms, cell["arms"], strict=True)
    ]
    return {"names": [metric_words(name).label for name in names], "rows": rows}


def _metric(found: Mapping[str, Any] | None, words: MetricWords) -> dict[str, str]:
    if found is None:
        return {"value": "", "interval": ""}
    return {
        "value": amount(found["value"], words),
        "interval": interval(found["low"], found["high"], words),
    }


def _tried(
    result: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], words: MetricWords
) -> list[dict[str, Any]]:
    """The learning rates that were tried, and what the validation images said of them."""

    def shown(value: float) -> str:
        return f"{amount(value, words)} ({interval(*_around(value, result['val']), words)})"

    out = []
    for cell in result["cells"]:
        for arm, score in zip(arms, cell["arms"], strict=True):
            if not score["tried"]:
                continue
            edge = f"the {score['edge']} of the rates is chosen: wider --rates, or --widen, might find more"
            out.append(
                {
                    "cell": f"{number(cell['images'])} images, {cell['schedule']}x",
                    "arm": arm["words"],
                    "rates": [
                        {
                            "rate": rate(each["rate"]),
                            "value": shown(each["validation"])
                            if each["validation"] is not None
                            else "the loss was no number",
                            "chosen": each["rate"] == score["rate"],
                        }
                        for each in score["tried"]
                    ],
                    "edge": edge if score["edge"] else "",
                }
            )
    return out


def _alike(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What all trainings have in common."""
    width, height = settings["frame"]
    shortened = settings["epochs"] < settings["wished"]
    budget = f" instead of {settings['wished']}, which the budget does not allow" if shortened else ""
    rows = [
        ("Network", f"{settings['weights']} with the head {settings['head']}"),
        ("1x", f"{plural(settings['epochs'], 'epoch')} of the arm's own images{budget}"),
        ("Batch", plural(settings["batch_size"], "image")),
        ("Input", f"{width} x {height} pixels"),
        ("Augmentation", f"{settings['augment']}, {'with' if settings['flip'] else 'without'} mirror images"),
    ]
    return rows + [
        (key.replace("_", " ").capitalize(), text(value)) for key, value in settings["shared"].items()
    ]


def _own(settings: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each arm has for itself."""
    return [
        {
            "arm": arm["words"],
            "values": ", ".join(
                f"{key.replace('_', ' ')} {value}" for key, value in settings["own"][arm["name"]].items()
            ),
            "usual": rate(settings["usual"][arm["name"]]),
        }
        for arm in arms
    ]
