"""The metrics of all workers, shown by whichever of them is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog
from aiohttp import ClientError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from .child import exposition

log = structlog.get_logger(__name__)

ANSWER_S = 0.5
"""Half of what a scrape may take: a worker that hangs must not hide the others."""


class WorkerMetrics:
    """The metrics of all processes that have a socket in `folder`: the workers, whose samples get a label
    `worker`, and the relay, whose do not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def exposition(self) -> bytes:
        sockets = sorted(self._folder.iterdir())
        texts = dict(zip(sockets, await asyncio.gather(*map(_metrics_of, sockets)), strict=True))
        registry = CollectorRegistry()
        registry.register(_Merged({s.name: t for s, t in texts.items() if _is_worker(s)}))
        rest = [text for socket, text in texts.items() if not _is_worker(socket)]
        return b"".join([generate_latest(registry), *rest])


class _Merged:
    """One family of each name with the samples of all, as Prometheus demands."""

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for name, text in self._texts.items():
            worker = name.removeprefix("worker-")
            for family in text_string_to_metric_families(text.decode()):
                whole = Metric(family.name, family.documentation, family.type)
                samples = merged.setdefault(family.name, whole).samples
                samples += [
                    sample._replace(labels={**sample.labels, "worker": worker})
                    for sample in family.samples
                ]
        return merged.values()


def _is_worker(socket: Path) -> bool:
    return socket.name.startswith("worker-")


async def _metrics_of(socket: Path) -> bytes:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await exposition(socket)
    except (OSError, ClientError) as error:  # a TimeoutError is an OSError
        log.info("metrics.absent", of=socket.name, reason=str(error) or type(error).__name__)
        return b""
