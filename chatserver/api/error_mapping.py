"""Maps exceptions to the errors that callers receive, for every door."""

from __future__ import annotations

import structlog

from ..errors import ChatError, Internal, Unavailable
from ..mongo import is_down

log = structlog.get_logger(__name__)


def refusal(error: BaseException, **ids: str) -> ChatError:
    """Returns the ChatError for an exception. An unexpected exception is logged with `ids`, and the caller
    learns nothing about it."""
    if isinstance(error, ChatError):
        return error
    if is_down(error):
        return Unavailable()
    log.error("unexpected error", exc_info=error, **ids)
    return Internal()
