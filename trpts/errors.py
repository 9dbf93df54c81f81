"""The one error that a user of the command line sees: a single sentence, no traceback."""


class TrptsError(Exception):
    """Says what was found and what was expected, in one sentence."""
