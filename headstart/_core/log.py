"""What the library says while it works: one logger, silent unless the caller or the command line listens."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("headstart")
LOGGER.addHandler(logging.NullHandler())


def say(message: str) -> None:
    """Tell the user a step that was taken or a decision that was made (one line, no full stop needed)."""
    LOGGER.info(message)


def warn(message: str) -> None:
    """Tell the user something that needs attention but does not stop the work."""
    LOGGER.warning(message)
