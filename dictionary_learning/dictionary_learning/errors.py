"""The one exception for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user, told in one sentence that holds the value and the remedy.

    `cli.run` prints it without a traceback and exits with code 2. Our own mistakes are
    `assert`s and stay loud.
    """
