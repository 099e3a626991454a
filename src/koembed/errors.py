"""The one exception that a user is meant to see."""


class InputError(Exception):
    """The user's input was wrong: one line that says what, where, and what to do. The command line exits with 2."""
