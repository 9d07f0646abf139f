"""The metrics of all workers, so that a scrape of any worker returns all of them."""

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
"""Half the time limit of a scrape, so that a worker that hangs does not hide the others."""


class WorkerMetrics:
    """The metrics of all processes with a socket in `folder`. Samples of workers get a label `worker`;
    samples of the relay do not."""

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
    """One family per name, with the samples of all workers, as Prometheus requires."""

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
