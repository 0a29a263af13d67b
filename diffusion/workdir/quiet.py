"""What a save that failed leaves behind in other libraries would be printed as tracebacks: it is told in one line."""

import logging
import sys
import threading
from typing import Any

LOGS = ("absl", "asyncio", "concurrent.futures")
"""Where Orbax, and the tasks that it does not wait for, log their errors."""

_before = sys.unraisablehook


def quiet() -> None:
    """Errors of a save are ours to tell, from here on.

    Beside what is logged those are callbacks in TensorStore's own threads that find the event loop closed: errors of no
    object and of no thread of Python. All others are shown as before.
    """
    global _before
    for name in LOGS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if sys.unraisablehook is not _show:
        _before, sys.unraisablehook = sys.unraisablehook, _show


def _show(raised: Any) -> None:
    foreign = threading.get_ident() not in {thread.ident for thread in threading.enumerate()}
    if raised.object is not None or not foreign:
        _before(raised)
