"""The command line. Thin: anything it does, a function does."""

from __future__ import annotations

import logging
import os
import sys

_DEBUG = "--debug"


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code: 0 ok, 1 failure, 2 wrong use, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in given or bool(os.environ.get("HEADSTART_DEBUG"))
    sys.exit(_run([word for word in given if word != _DEBUG], debug=debug))


def _run(words: list[str], *, debug: bool) -> int:
    from headstart._core.errors import HeadstartError
    from headstart.cli.app import build

    _listen()
    try:
        build(words)(words, prog_name="headstart")
    except HeadstartError as error:
        if debug:
            raise
        _complain(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("Interrupted.", "")
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # lets the interpreter flush without another error
        return 0
    except Exception as error:  # the last line of defence: a user never sees a raw traceback
        if debug:
            raise
        hint = "This is a defect of headstart. Run again with --debug and report what it prints."
        _complain(f"Unexpected {type(error).__name__}: {error}", hint)
        return 1
    return 0


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
