"""What goes wrong, as Python's exceptions."""

import os


class Error(Exception):
    """An error of npk: what is wrong, in which file and array, and what to do about it.

    Each kind is one of Python's own exceptions, too, so that ``except FileNotFoundError`` and the like
    catch what they should.
    """

    kind = "failed"

    def __init__(self, text, message=None, file=None, array=None, hint=None, others=()):
        super().__init__(text)
        self.text = text
        self.message = message if message is not None else text
        self.file = file
        self.array = array
        self.hint = hint
        self.others = list(others)

    def __str__(self):
        lines = [self.text, *(f"also: {other}" for other in self.others)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self):
        fields = (self.text, self.message, self.file, self.array, self.hint, self.others)
        return type(self), fields


class UsageError(Error, ValueError):
    """Options that do not fit, or sources that clash."""

    kind = "usage"


class MissingError(Error, KeyError, ValueError):
    """Something that is not there, or not recognised."""

    kind = "missing"


class NotFoundError(MissingError, FileNotFoundError):
    """A file that is not there."""


class RefusedError(Error, ValueError):
    """Data that would change, or a thing that is known and not supported."""

    kind = "refused"


class ExistsError(Error, FileExistsError):
    """An output, or an array in it, that is there already."""

    kind = "exists"


class RemoteError(Error, ConnectionError):
    """Credentials, permissions, the network."""

    kind = "remote"


class CorruptError(Error, ValueError):
    """Bytes that break their format."""

    kind = "corrupt"


class CancelledError(Error):
    """Work that was ended before its time."""

    kind = "cancelled"


class InternalError(Error, RuntimeError):
    """A bug in npk."""

    kind = "internal"


class FailedError(Error, OSError):
    """The disk is full, and the like."""


class DependencyError(ImportError):
    """A library that this call needs is not installed."""


_KINDS = {
    cls.kind: cls
    for cls in (UsageError, MissingError, RefusedError, ExistsError, RemoteError, CorruptError,
                CancelledError, InternalError)
}


def make(kind, text, message, file, array, hint, others):
    cls = _KINDS.get(kind, FailedError)
    # Of a URL nobody asks again.
    if kind == "missing" and array is None and file and ("://" in file or not os.path.exists(file)):
        cls = NotFoundError
    return cls(text, message, file, array, hint, others)
