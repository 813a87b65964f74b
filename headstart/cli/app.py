"""The commands, each in a file of its own that is imported only when it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from headstart import __version__
from headstart._core.table import Table, load

_EPILOG = "Add --debug to any command for a traceback. Start here: headstart demo, then headstart fit FOLDER."


@dataclass(frozen=True)
class Command:
    """A row of `COMMANDS`: where the command is (a function or a Typer app), and what `--help` says of it."""

    path: str
    summary: str


COMMANDS: Table[Command] = Table(
    "headstart",
    {
        "fit": Command(
            "headstart.cli.fit:fit", "From a folder of images to a tested, explained, saved model."
        ),
        "plan": Command("headstart.cli.plan:plan", "Print what fit would do, and why."),
        "rank": Command("headstart.cli.rank:rank", "Which pretrained weights suit your images, and why."),
        "study": Command(
            "headstart.cli.study:study",
            "What pretraining brings on your images: pretrained against random weights.",
        ),
        "predict": Command("headstart.cli.predict:predict", "Classify images with a fitted model."),
        "evaluate": Command("headstart.cli.evaluate:evaluate", "Measure a fitted model on labelled images."),
        "compare": Command(
            "headstart.cli.compare:compare",
            "Runs side by side on the same test images, with paired intervals.",
        ),
        "reproduce": Command(
            "headstart.cli.reproduce:reproduce",
            "Repeat a run from its folder: is it the same to the last bit?",
        ),
        "audit": Command(
            "headstart.cli.audit:audit",
            "Is the data what it says? Leaks, doubtful labels, groups, confounds.",
        ),
        "weights": Command("headstart.cli.weights:app", "Pretrained weights: list, show, check."),
        "cache": Command("headstart.cli.cache:app", "What is kept between runs: info, clear."),
        "export": Command(
            "headstart.cli.export:export", "Write a checked file to deploy, with preprocessing inside."
        ),
        "report": Command("headstart.cli.report:report", "Write a run's report page again."),
        "demo": Command("headstart.cli.demo:demo", "Fit handwritten digits, offline, in about a minute."),
        "doctor": Command(
            "headstart.cli.doctor:doctor", "Show what this machine offers and what is missing."
        ),
    },
)


def build(words: list[str]) -> typer.Typer:
    """The Typer app for these words: the command that they name is imported, the others are only listed.

    Raises:
        BadOption: for an unknown command.
    """
    called = next((word for word in words if not word.startswith("-")), "")
    if called:
        COMMANDS[called]
    app = typer.Typer(
        name="headstart",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help="Transfer learning for images: measured, planned, adapted, proved.")(_root)
    for name, row in COMMANDS.items():
        target = load(row.path) if name == called else _listed
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=row.summary)
        else:
            app.command(name, help=row.summary)(target)
    return app


def _listed() -> None:
    """Stands for a command that is listed but was not called."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headstart {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # its callback has answered
