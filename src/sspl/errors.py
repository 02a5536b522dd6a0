"""Errors that a user can act on."""


class SsplError(Exception):
    """Bad input or an environment that stops the work.

    The message is one sentence that names the file, line or field and says what to do.
    The command line prints it without a traceback and exits with code 2.
    """


class DataError(SsplError):
    """A file, label or mask that cannot be used as it is."""


class SettingsError(SsplError):
    """A setting that is unknown or out of range."""


class TrainingError(SsplError):
    """Training that cannot go on, such as a loss that is not a number."""


class ReportedElsewhereError(SsplError):
    """Something that another process of the run has failed at and reports."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, its kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
