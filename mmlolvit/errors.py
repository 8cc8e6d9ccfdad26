"""Errors that tools report without a traceback."""


class UserError(Exception):
    """A mistake that the user can mend; tools print its message and exit with 2."""
