"""The one exception for what a user can mend: a file, a line, a key, a value. The command line prints it without a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names what was given (file, line or key, and the value) and how to mend it.
    """
