"""Errors that tools report without a traceback."""

import difflib


class UserError(Exception):
    """A mistake that the user can mend; tools print its message and exit with 2."""


def did_you_mean(name: str, known: dict[str, str]) -> str:
    """The end of a message: what is shown for the keys (in lower case) nearest to ``name``."""
    close = [known[key] for key in difflib.get_close_matches(name.lower(), known, n=2)]
    return f'; did you mean {" or ".join(close)}?' if close else ''
