"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Says what was given, what is allowed and the way out. Programs print it and exit with 2."""
