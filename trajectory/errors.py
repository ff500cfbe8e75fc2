"""The one family of errors that a user is meant to read."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

_SECRETS = (
    (re.compile(r"hf_[A-Za-z0-9]{4,}"), "hf_…"),
    (re.compile(r"(?i)(bearer\s+)[^\s'\"]+"), r"\1…"),
    (re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\"]+"), r"\1?…"),  # signed links
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s]+@"), r"\1…@"),
)


def without_secrets(text: str) -> str:
    """The text without access tokens, signatures of links and passwords."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def reason_of(error: BaseException) -> str:
    """The first line of what a library says, without secrets; the error's class if it says none."""
    return without_secrets((str(error).strip() or type(error).__name__).split("\n")[0])


def one_line(text: str) -> str:
    """The text with its control characters written out: names from outside may hold line breaks,
    sequences that terminals obey, or halves of characters, which no file can store."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class TrajectoryError(Exception):
    """A problem the user can mend; its message is one line saying what, where, and what is right.

    The command line prints the message without a traceback and exits with status 2.

    Args:
        lines: of the message; one, unless there are several problems.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(one_line, lines)))


class DamagedFiles(TrajectoryError):
    """Files of a checkpoint cannot be read as what they should be, or contradict each other."""


class UnusableFolder(TrajectoryError):
    """A folder that every checkpoint of a job needs cannot be used, here or at all."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say ``what`` of files that a library cannot read, whatever it raises inside the block.

    Raises:
        DamagedFiles: ``what`` and the reason, in one line.
    """
    try:
        yield
    except (TrajectoryError, ImportError, MemoryError):
        raise  # known already, or nothing that files can do
    except BaseException as error:  # their readers raise what a damaged file happens to make them
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # that one is Rust's mistake; any other is a wish to end
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or "no reason given"
        if not isinstance(error, (OSError, ValueError)):
            reason = f"{type(error).__name__}: {reason}"
        raise DamagedFiles(f"{what} ({reason})") from None


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk, a quota or a file has no room; some libraries say so in words only."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return True
    return any(f"os error {number}" in str(error) for number in full)
