"""The one family of errors that a user is meant to read."""


class TrajectoryError(Exception):
    """A problem the user can mend; its message is one line saying what, where, and what is right.

    The command line prints the message without a traceback and exits with status 2.
    """
