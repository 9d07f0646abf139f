"""All operations that do not need a part of the socket door (see sockets/connection_operations.py)."""

from __future__ import annotations

from collections.abc import Sequence

from . import activity, conversations, internal, jobs, messages, presence, receipts, webhooks
from .operation import Operation

FOR_USERS: Sequence[Operation] = (
    *conversations.OPERATIONS,
    *messages.OPERATIONS,
    *receipts.OPERATIONS,
    *presence.OPERATIONS,
    *activity.OPERATIONS,
)
INTERNAL: Sequence[Operation] = (
    *internal.OPERATIONS,
    *jobs.OPERATIONS,
    *webhooks.OPERATIONS,
)
"""Operations of the Master Service and of operators, which need the internal secret."""
