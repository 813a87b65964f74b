"""The command line. Thin: anything it does, a function does."""

from __future__ import annotations

import io
import logging
import os
import sys

_DEBUG = "--debug"


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code: 0 ok, 1 failure, 2 wrong use, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in given or bool(os.environ.get("HEADSTART_DEBUG"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not end a run
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run([word for word in given if word != _DEBUG], debug=debug))


def _run(words: list[str], *, debug: bool) -> int:
    from headstart._core.errors import HeadstartError

    _listen()
    try:
        return _call(words)
    except HeadstartError as error:
        if debug:
            raise
        _complain(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("Interrupted.", "A run that had begun goes on with: headstart fit --resume RUN")
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _leave_stdout()
        return 0
    except Exception as error:  # the last line of defence: a user never sees a raw traceback
        if debug:
            raise
        _complain(*_explained(error))
        return 1


def _call(words: list[str]) -> int:
    """The exit code of the command, after all that it printed has been written out."""
    import typer

    from headstart.cli.app import build
    from headstart.cli.usage import UsageError, wrong_use

    command = typer.main.get_command(build(words))
    # Not `command.main`: it turns errors and signals into exits and texts of its own, and a closed pipe into a failure.
    try:
        with command.make_context("headstart", list(words)) as context:
            command.invoke(context)
    except typer.Exit as end:
        sys.stdout.flush()
        return int(end.exit_code)
    except UsageError as error:
        if not error.format_message():  # no command was given, and the help has been printed
            return 2
        raise wrong_use(error, words) from error
    sys.stdout.flush()
    return 0


def _explained(error: Exception) -> tuple[str, str]:
    """What went wrong and the next move, for an error that no part of headstart has put into words."""
    if (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    ):  # the second is torch's, for GPUs
        return (
            "There is not enough memory.",
            "Use a smaller --batch-size or smaller weights, or close other programs.",
        )
    if isinstance(error, OSError) and error.errno is not None:
        place = error.filename or "standard output"
        if place == "standard output":
            _leave_stdout()
        return (
            f"{place}: {error.strerror}.",
            "The system refused it: check that place's rights and free space.",
        )
    hint = "This is a defect of headstart. Run again with --debug and report what it prints."
    return f"Unexpected {type(error).__name__}: {error}", hint


def _leave_stdout() -> None:
    """Let the interpreter flush at its end without another error."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123


def _complain(message: str, hint: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]Error:[/] ", end="")
    console.print(message, markup=False)
    if hint:
        console.print(hint, markup=False, style="dim")


def _listen() -> None:
    """Send what the library says to standard error, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("headstart")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
