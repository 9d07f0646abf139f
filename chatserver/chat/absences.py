"""Absences: what is kept of a user who left a conversation. A user who comes back has it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..mongo import Document, Mongo, Session
from .membership import Member
from .memberships import member_id
from .read_state.planned_marks import MAX_AHEAD
from .read_state.unread import read_set

LASTING = ("lastReadSeq", "ahead", "readVersion", "hides")
"""The fields of a participant that belong to the user, and outlast the membership."""


class Absences:
    """Keeps the read marks of users who left, and whether they have hidden messages.

    An absence is a document of its own collection, so that every document in `participants` is a member.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def begin(self, member: Member, last_seq: int, session: Session) -> None:
        """A member leaves when `last_seq` is the last message."""
        doc = {key: value for key, value in member.doc.items() if key in LASTING}
        where = {"conversationId": member.conversation_id, "userId": member.user_id}
        # There may be an older one: a node of an earlier version lets users join without ending it.
        await self._mongo.absences.replace_one(
            {"_id": member.doc["_id"]}, {**where, **doc, "leftSeq": last_seq}, True, session=session
        )

    async def end(
        self, conversation_id: str, user_ids: Sequence[str], last_seq: int, session: Session
    ) -> Mapping[str, Document]:
        """Users join when `last_seq` is the last message. Returns the lasting fields of each, by user id.

        Nothing is unread but what was unread when the user left: the messages in between count as read, without a
        receipt, and so do all messages for a user who was never here.
        """
        which = {"_id": {"$in": [member_id(conversation_id, user_id) for user_id in user_ids]}}
        kept = [doc async for doc in self._mongo.absences.find(which, session=session)]
        if kept:
            await self._mongo.absences.delete_many(which, session=session)
        return {user_id: {"lastReadSeq": last_seq} for user_id in user_ids} | {
            doc["userId"]: _returned(doc, last_seq) for doc in kept
        }


def _returned(doc: Document, last_seq: int) -> Document:
    state = read_set(doc)
    if last_seq > doc["leftSeq"]:
        state = state.adding(doc["leftSeq"] + 1, last_seq)
    # A user who comes and goes without reading would add a range each time.
    state = state.at_most(MAX_AHEAD)
    return {
        **{key: value for key, value in doc.items() if key in LASTING},
        "lastReadSeq": state.mark,
        "ahead": [list(span) for span in state.ahead],
        # A mark that was being stored when the user left is decided again.
        "readVersion": doc.get("readVersion", 0) + 1,
    }
