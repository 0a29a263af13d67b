"""Errors of the system in a few words."""

import errno
import os

SYSTEM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES))
"""What the system calls a disk that cannot be written."""


def reason(error: BaseException) -> str:
    """An error in a few words: what the system calls it, also deep in a library's message, or the message's start."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return next((name for name in SYSTEM if name in text), text[:200]) or type(error).__name__
