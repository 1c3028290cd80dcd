"""The exceptions that Berth raises. Their text is what the command `berth` prints: one line that
says what was wrong, where, and what to do."""


class Error(Exception):
    """Whatever ends an operation of Berth. The others are kinds of it."""


class DoesNotFit(Error, MemoryError):
    """There is less memory than is needed; raised before bytes are read where that can be."""


class BrokenFile(Error):
    """A file of weights is malformed, was cut short, has changed meanwhile or cannot be read."""


class NoSuchFile(Error, FileNotFoundError):
    """There is no such file or folder."""


class UsageError(Error, ValueError):
    """An argument makes no sense."""


class Interrupted(Error):
    """A load was stopped by something else than Ctrl-C, which raises KeyboardInterrupt."""
