"""Find a still-running mneme process by the process id another one recorded."""

from __future__ import annotations

import psutil


def living(pid: object, program: str) -> psutil.Process | None:
    """The living process of this number, if `program` stands in its command line; else None.

    A number is used again by other programs: only one that is ours may be waited for or get a signal.
    """
    if not isinstance(pid, int):
        return None
    try:
        process = psutil.Process(pid)
        mine = any(program in part for part in process.cmdline())
        return process if mine and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError):  # ValueError: a negative number
        return None
