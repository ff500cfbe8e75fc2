"""The one family of errors that a user is meant to read."""

import errno


class TrajectoryError(Exception):
    """A problem the user can mend; its message is one line saying what, where, and what is right.

    The command line prints the message without a traceback and exits with status 2.
    """


class DamagedFiles(TrajectoryError):
    """Files of a checkpoint cannot be read as what they should be, or contradict each other."""


class UnusableFolder(TrajectoryError):
    """A folder that every checkpoint of a job needs cannot be used, here or at all."""


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk or a quota is full; some libraries say so in words only."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in full:
        return True
    return any(f"os error {number}" in str(error) for number in full)
