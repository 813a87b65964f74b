"""`headstart fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headstart._core import records
from headstart._core.errors import BadOption
from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import Json, print_json, say, shown_metric
from headstart.cli.start import many_imports
from headstart.data.records import LoadOptions
from headstart.methods import METHODS
from headstart.ranking.records import Limits
from headstart.runs.options import FitOptions

FLAGS = (
    record_flags(FitOptions, panel="Run"),
    record_flags(Limits, panel="Choice of weights"),
    record_flags(LoadOptions, panel="Data"),
    *(record_flags(method.params, panel=f"Method {method.name}") for method in METHODS.values()),
)


@with_flags(*FLAGS)
def fit(
    train: Annotated[
        str,
        typer.Argument(
            help="Class folders, a CSV or Parquet file; boxes (VOC, COCO, YOLO, CSV); images with masks; or a built-in name."
        ),
    ] = "",
    resume: Annotated[str, typer.Option(help="Go on with an interrupted run in this folder.")] = "",
    json: Json = False,
    **flat: Any,
) -> None:
    """From a folder of images to a tested, explained, saved model."""
    if bool(train) == bool(resume):
        raise BadOption(
            "fit needs either data or --resume.", hint="headstart fit FOLDER, or headstart fit --resume RUN"
        )
    if resume and flat:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in flat)
        raise BadOption(
            f"{names} has no effect with --resume.",
            hint="A resumed run keeps the options it was started with.",
        )
    with many_imports():
        from headstart.compute import keep_memory
        from headstart.runs import fit as runs
    keep_memory()
    fitted = runs.resume(resume) if resume else runs.fit(train, **flat)
    if json:
        print_json(records.read_json(fitted.folder / "evaluation.json") | {"run": str(fitted.folder)})
    else:
        summary(fitted.folder)


def summary(folder: Path) -> None:
    """Print the result of a run and the next moves."""
    result = records.read_json(folder / "evaluation.json")
    test = result["splits"]["test"]
    say()
    for name, metric in test["metrics"].items():
        say(f"  test {name.replace('_', ' '):<26} {shown_metric(name, metric)}")
    say(f"  on {test['n']} images that no choice was made on; 95 % intervals")
    honest = result["splits"].get("test_without_leaks")
    if honest is not None:
        name, metric = next(iter(honest["metrics"].items()))
        leaks = test["n"] - honest["n"]
        say(
            f"  without the {leaks} of them that training (nearly) shows: {name} {shown_metric(name, metric)}"
        )
    for other in result["comparisons"]:
        interval = f"{other['low']:+.1%} to {other['high']:+.1%}"
        say(f"  against {other['b']:<23} {other['difference']:+.1%} ({interval}), {other['verdict']}")
    say(f"  {result['method']} on {result['weights']}, {result['seconds']['total']:.0f} s in all\n")
    say(f"Report:   {folder / 'report.html'}")
    say(f"Predict:  headstart predict {folder} IMAGES")
    say(f"Export:   headstart export {folder} --format onnx")
