"""`write_comparison`: runs side by side as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from headstart._core.files import write_text
from headstart.reporting import charts
from headstart.reporting.results import comparison, metric_rows
from headstart.reporting.wording import (
    amount,
    duration,
    interval,
    method_words,
    metric_words,
    number,
    percent,
    plural,
    text,
)
from headstart.reporting.write import encodable, environment


def write_comparison(path: Path, compared: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Path:
    """The path of the page.

    Args:
        path: to write to.
        compared: a `Compared` in its plain form.
        pictures: image name -> JPEG of it, for the images that are shown.
    """
    css = resources.files("headstart.reporting").joinpath("report.css").read_text(encoding="utf-8")
    page = (
        environment(markdown=False)
        .get_template("compare.html.jinja")
        .render(comparison_context(compared, pictures), css=Markup(css))  # noqa: S704  # our own file
    )
    write_text(path, encodable(page))
    return path


def comparison_context(compared: Mapping[str, Any], pictures: Mapping[str, bytes]) -> dict[str, Any]:
    """Everything that the page lays out."""
    runs = compared["runs"]
    name = next(iter(runs[0]["scores"]["metrics"]))
    words = metric_words(name)
    marks = [
        charts.Mark(
            label=f"{run['name']}  {amount(run['scores']['metrics'][name]['value'], words)}",
            value=run["scores"]["metrics"][name]["value"],
            low=run["scores"]["metrics"][name]["low"],
            high=run["scores"]["metrics"][name]["high"],
            main=True,
        )
        for run in runs
    ]
    return {
        "n": plural(compared["n"], "test image"),
        "metric": words.label,
        "runs": [_run(run, name) for run in runs],
        "chart": charts.interval_chart(marks, x=words.inside, percent=words.share),
        "pairs": [comparison(pair) for pair in compared["pairs"]],
        "corrected": len(compared["pairs"]) > 1,
        "spreads": [_spread(spread) for spread in compared["spreads"]],
        "differing": number(compared["disagreements"]),
        "cards": [_card(entry, runs, pictures) for entry in compared["shown"]],
    }


def _run(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    metric, words = run["scores"]["metrics"][name], metric_words(name)
    return {
        "name": text(run["name"]),
        "method": method_words(run["method"]),
        "weights": text(run["weights"]),
        "value": amount(metric["value"], words),
        "interval": interval(metric["low"], metric["high"], words),
        "seconds": duration(run["seconds"]),
        "size": f"{run['megabytes']:.1f} MB",
        "rows": metric_rows(run["scores"]["metrics"], run["scores"]["n"]),
    }


def _spread(spread: Mapping[str, Any]) -> str:
    words = metric_words("accuracy")
    return (
        f"{', '.join(spread['runs'])} differ in nothing but the seed: mean {percent(spread['mean'])} "
        f"({interval(spread['low'], spread['high'], words)}), standard deviation between seeds "
        f"{100 * spread['deviation']:.1f} points."
    )


def _card(entry: Mapping[str, Any], runs: Any, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    content = pictures.get(entry["name"])
    return {
        "name": text(entry["name"]),
        "truth": text(entry["truth"] or "none"),
        "picture": f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" if content else "",
        "said": [
            {
                "run": text(run["name"]),
                "answer": text(answer or "none"),
                "probability": percent(probability),
                "right": answer == entry["truth"],
            }
            for run, answer, probability in zip(runs, entry["answers"], entry["probabilities"], strict=True)
        ],
    }
