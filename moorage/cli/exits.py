"""How the command ends. The numbers are for scripts and never change their meaning."""

from __future__ import annotations

OK = 0
DIFFERENT = 1  # a negative answer: `diff` found differences
USAGE = 2
INVALID = 3  # the specification or the request was refused
NOT_FOUND = 4
CONFLICT = 5
FORBIDDEN = 6  # no valid token, or one that does not allow this
UNREACHABLE = 7
TIMEOUT = 8
ROLLOUT_FAILED = 9
FAULT = 70  # of the command itself
INTERRUPTED = 130

TABLE = """Exit codes: 0 done, 1 a difference or a negative answer, 2 wrong usage, 3 specification or request refused,
4 not found, 5 conflict, 6 no valid token or not allowed, 7 controller or store out of reach, 8 time is up,
9 rollout failed, 70 a fault of this command, 130 interrupted."""


class Failure(Exception):
    """Ends the command: one clear sentence (none where nothing went wrong), what to do about it, the exit code."""

    def __init__(self, message: str, *, code: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


def usage(message: str, hint: str = "") -> Failure:
    return Failure(message, code=USAGE, hint=hint)
