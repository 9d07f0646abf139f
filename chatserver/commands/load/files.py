"""The limit of open files. Each connection is one."""

from __future__ import annotations

import sys

from ..client.failures import CommandFailed

OTHERS = 100
"""Open files of this program other than the users' connections."""


def allow(connections: int) -> None:
    """Raise this process's limit for that many connections. Raises CommandFailed if the machine forbids it."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  there is none for Windows

    wanted = connections + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        if resource.RLIM_INFINITY != hard < wanted:
            raise CommandFailed(
                f"{connections:,} users need as many open files, but this machine allows a process only"
                f" {hard:,}: raise the limit (ulimit -n), or run several instances with fewer users."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
