"""The participants of the conversation that is followed."""

from __future__ import annotations

from typing import Any

from ..client.api import Api, segment

PAGE = 200


class Participants:
    """Knows the participants, unless the conversation is large. Of a large one the server tells only the number of
    participants, and it tells of presence only because of other conversations."""

    def __init__(self) -> None:
        self.known: set[str] | None = None
        """None: the conversation is large, or `read` has not ended."""
        self._number = 0
        self._since: dict[str, bool] = {}
        """Users who have come (True) or gone while `read` runs."""

    @property
    def number(self) -> int:
        return self._number if self.known is None else len(self.known)

    def __contains__(self, user_id: str) -> bool:
        return self.known is not None and user_id in self.known

    async def read(self, api: Api, conversation: Any) -> None:
        """Read the participants of a conversation. Raises Unreachable, RefusedByServer."""
        self._number = conversation["participantCount"]
        self.known = None
        if conversation["isLarge"]:
            return
        since = self._since = {}
        found: set[str] = set()
        path = f"/conversations/{segment(conversation['id'])}/participants?limit={PAGE}"
        cursor: str | None = ""
        while cursor is not None:
            page = await api.ask("GET", path + (f"&cursor={segment(cursor)}" if cursor else ""))
            found |= {participant["userId"] for participant in page["items"]}
            cursor = page["nextCursor"]
        if self._since is since:
            gone = {user_id for user_id, is_in in since.items() if not is_in}
            self.known = (found | since.keys()) - gone

    def note(self, user_id: str, *, is_in: bool) -> bool:
        """A user has come or gone. Returns False if that is known."""
        if self.known is None:
            self._since[user_id] = is_in
            return True
        if (user_id in self.known) is is_in:
            return False
        (self.known.add if is_in else self.known.discard)(user_id)
        return True

    def became_large(self, number: int) -> None:
        self.known = None
        self._number = number
        self._since = {}  # What `read` finds now is of no use.
