"""The two kinds of failure that reach a user as one line instead of a traceback."""


class InputError(ValueError):
    """Something that the user gave cannot work; the message says what, what was expected, and the cure.

    The command line prints it alone and exits with code 2.
    """


class TrainingError(RuntimeError):
    """A run that started well cannot go on (for example losses became NaN); what it saved so far is kept.

    The command line prints it alone and exits with code 1.
    """
