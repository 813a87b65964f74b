"""Wrong use of the command line in the words of all other errors: the thing, the value, the next move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from headstart._core.check import suggestion
from headstart._core.errors import BadOption

# Typer carries Click inside or beside it, depending on its version: the class is reached through a public one.
UsageError: type[Any] = typer.BadParameter.__mro__[1]

_KINDS = (("integer", "a whole number"), ("float", "a number"), ("number", "a number"))


def wrong_use(error: Any, words: Sequence[str]) -> BadOption:
    """What Typer says about the words, as an error of ours.

    Args:
        error: of the class `UsageError`.
        words: the whole command line, without the program's name.
    """
    context = error.ctx
    command = context.command_path if context else " ".join(["headstart", *words[:1]])
    all_options = f"All options: {command} --help"
    option = getattr(error, "option_name", "")
    if option and hasattr(error, "possibilities"):
        known = [name for each in context.command.params for name in each.opts] if context else []
        hint = f"{suggestion(option, known)} {all_options}".strip()
        return BadOption(f"{command} has no option {option}.", hint=hint)
    param = getattr(error, "param", None)
    flag = max(param.opts, key=len) if param is not None else ""
    value = _value_of(flag, words)
    text = error.format_message().rstrip(".")
    kind = next((words_for for word, words_for in _KINDS if word in text), "")
    if flag.startswith("-") and value and kind:
        return BadOption(f"{flag} is {value!r}.", hint=f"It must be {kind}.")
    usage = " ".join(context.get_usage().split()) if context else ""
    text += "" if text.endswith("?") else "."
    return BadOption(f"{command}: {text}", hint=f"{usage}\n{all_options}".strip())


def _value_of(flag: str, words: Sequence[str]) -> str:
    """What was typed after a flag, or an empty string."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if flag and name == flag:
            return value if equals else "".join(words[number + 1 : number + 2])
    return ""
