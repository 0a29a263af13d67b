"""Error messages in a few words."""

import errno
import os

SYSTEM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES))
"""Messages of the system for a disk that cannot be written."""


def reason(error: BaseException) -> str:
    """An error in a few words: the system's message, if the error contains one, else the start of its own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    if isinstance(error, KeyError) and text:
        text = f"no key {text}"
    return next((name for name in SYSTEM if name in text), text[:200]) or type(error).__name__
