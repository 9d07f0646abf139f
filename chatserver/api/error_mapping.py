"""An exception to what the caller is told: one function, for every door."""

from __future__ import annotations

import structlog

from ..errors import ChatError, Internal, Unavailable
from ..mongo import is_down

log = structlog.get_logger(__name__)

HANDLER_S = 4.5
"""A request, an event or a connect that takes longer is answered with UNAVAILABLE, at whatever door."""


def refusal(error: BaseException, **ids: str) -> ChatError:
    """The ChatError for what went wrong. Anything unforeseen is logged here, with the ids of what was
    asked, and nothing of it leaks."""
    if isinstance(error, ChatError):
        return error
    if is_down(error):
        return Unavailable()
    log.error("unexpected error", exc_info=error, **ids)
    return Internal()
