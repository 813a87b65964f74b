"""Files that are either whole or absent, and hashes of what is in them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headstart._core.errors import BadInput

_CHUNK = 1 << 20


def absolute(path: Path) -> Path:
    """The absolute path of something that exists, without `..` where it is the same without: behind a link it may not be."""
    whole = path.absolute()
    short = Path(os.path.normpath(whole))
    return short if short.exists() and short.samefile(whole) else whole


def sha256_bytes(content: bytes) -> str:
    """The SHA-256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def explain_os_error(error: OSError, path: Path) -> BadInput:
    """A write that failed, in words: which path, why, and what to do."""
    if error.errno == errno.ENOSPC:
        return BadInput(
            f"The disk is full: {path} could not be written.",
            hint="Free some space and run again; an interrupted fit goes on with: headstart fit --resume RUN",
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return BadInput(
            f"{path} cannot be written: {error.strerror}.",
            hint="Choose a folder that you may write to with --out.",
        )
    return BadInput(
        f"{path} could not be written: {error.strerror or error}.", hint="Choose another folder with --out."
    )


@contextlib.contextmanager
def atomic(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    Args:
        path: where the file belongs.
        sync: wait until it is on the disk; without, a power cut may lose it (a killed process cannot). Pictures can be
            made again, and dozens of waits add up to most of a second.

    Raises:
        BadInput: when the folder cannot be written to or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise explain_os_error(error, target) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files only their owner can read
        temporary.replace(target)
    except OSError as error:
        raise explain_os_error(error, target) from error
    except RuntimeError as error:  # torch's writer wraps the stream's own error
        if isinstance(error.__context__, OSError):
            raise explain_os_error(error.__context__, target) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never a part."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def writable_folder(path: str | Path) -> Path:
    """The folder, made if it was not there, after a trial write, so that a long run cannot fail at its end.

    Raises:
        BadInput: when it is a file or cannot be written to.
    """
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file, not a folder.", hint="Choose another folder with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise explain_os_error(error, folder) from error
