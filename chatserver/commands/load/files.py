"""Open files, of which each connection is one."""

from __future__ import annotations

import sys

from ..client.failures import CommandFailed

OTHERS = 100
"""What this program has open besides."""


def allow(connections: int) -> None:
    """Let this process have so many connections. Raises CommandFailed where that is not allowed."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  there is none for Windows

    wanted = connections + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        if resource.RLIM_INFINITY != hard < wanted:
            raise CommandFailed(
                f"{connections:,} users are as many open files, and this machine allows a process"
                f" {hard:,}: raise that (ulimit -n), or run several with fewer users each."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
