"""The memory that a server uses, as its kernel reports it."""

from __future__ import annotations

from pathlib import Path

from .servers import ChatServer


def memory_mb(server: ChatServer) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def queued_kb(server: ChatServer) -> list[float]:
    """Returns the unsent kilobytes in the kernel for each connection to the server's public port."""
    sizes = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, _, queues, *_ = line.split()
        if int(local.partition(":")[2], 16) == server.ws_port:
            sizes.append(int(queues.partition(":")[0], 16) / 1024)
    return sizes
