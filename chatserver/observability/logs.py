"""Structured logs on standard output: one line per event and request, never with contents or tokens."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

from .. import json_codec
from .log_throttle import Bounds

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str, fmt: str, process: str = "") -> None:
    """`fmt`: json, or console for a terminal. `process`: the name of this process, if not the server."""

    def says_who(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**event, "process": process}

    bounds = Bounds()
    processors: list[Any] = [
        bounds.line,
        *([says_who] if process else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if fmt == "json":
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=json_codec.encode_any),
        ]
    else:
        # Plain, because a pretty traceback shows local variables, which may contain tokens.
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # Warnings and errors of libraries go to the same stream.
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(bounds.record)
    handler.setFormatter(_Json(process) if fmt == "json" else logging.Formatter(_CONSOLE))
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[handler])
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    logging.getLogger("engineio.server").setLevel(logging.CRITICAL)
    logging.getLogger("socketio.server").setLevel(logging.CRITICAL)


def _is_ours(record: logging.LogRecord) -> bool:
    """False for malformed HTTP: aiohttp has answered it, and only the client is at fault."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__module__ != "aiohttp.http_exceptions"


_CONSOLE = "%(asctime)s [%(levelname)s] %(name)s: %(message)s"


class _Json(logging.Formatter):
    """Formats a library's line like ours. Its text may have quotes, line breaks and whatever a client sent."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "logger": record.name,
            "event": _encodable(record.getMessage()),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .isoformat()
            .replace("+00:00", "Z"),
        }
        if self._process:
            line["process"] = self._process
        if record.exc_info:
            line["exception"] = _encodable(self.formatException(record.exc_info))
        return json_codec.encode_any(line)


def _encodable(text: str) -> str:
    """Returns the text with lone surrogates, which UTF-8 cannot encode, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
