"""The kinds of failure a user can meet, each with the next move."""

from __future__ import annotations


class HeadstartError(Exception):
    """A failure that the user can act on.

    The message names the thing and the value received; `hint` is the next move. The command line
    prints both without a traceback and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message and, on a line of its own, the next move."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class BadInput(HeadstartError, ValueError):
    """Data or a file that cannot be used as it is."""


class BadOption(HeadstartError, ValueError):
    """An argument outside what is allowed: wrong use, not wrong data."""

    exit_code = 2


class BadPlan(HeadstartError, ValueError):
    """A plan that cannot be carried out, or one that contradicts itself."""


class BadWeights(HeadstartError, ValueError):
    """A checkpoint that is missing, damaged, unsafe or does not fit the network."""


class MissingPackage(HeadstartError, ImportError):
    """An optional package that the chosen row of a table needs."""

    def __init__(self, package: str, *, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed.",
            hint=f"Install it with: pip install 'headstart[{extra}]'",
        )


class NotFitted(HeadstartError, ValueError):
    """A model asked for answers before it was fitted."""


class HeadstartWarning(UserWarning):
    """Something that does not stop the work but that the user should know."""
