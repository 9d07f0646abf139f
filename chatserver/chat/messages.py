"""Messages: send, edit, delete, read, sync."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..clock import iso
from ..errors import NotFound, ValidationFailed
from ..json_codec import encode
from ..mongo import Document, Mongo
from .log.entry import Outcome
from .log.log import Log
from .membership import Member, Members
from .message import Message, conversation_of
from .message_changes import Delete, Edit, Hide
from .message_page import MessagePage
from .reaction_lists import ReactionLists
from .text import shows_nothing


@dataclass(frozen=True, slots=True)
class NewMessage:
    conversation_id: str
    content: str = ""
    attachments: tuple[Mapping[str, Any], ...] = ()
    reply_to: str | None = None
    client_message_id: str | None = None
    mentions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MessageEdit:
    message_id: str
    content: str


@dataclass(frozen=True, slots=True)
class MessageDeletion:
    message_id: str
    scope: str = "everyone"


@dataclass(frozen=True, slots=True)
class OneMessage:
    message_id: str


@dataclass(frozen=True, slots=True)
class SyncFrom:
    """A client's position: at most one of the three is set. If none is, sync starts at the beginning."""

    conversation_id: str
    last_message_id: str | None = None
    after_seq: int | None = None
    after_rev: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class PageOfMessages:
    conversation_id: str
    limit: int = 50
    before: str | None = None
    after: str | None = None


Begun = Future[Outcome]
"""A message whose place in the order of its sender's messages is fixed."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    conversation_id: str
    page: MessagePage
    last_seq: int
    last_rev: int


class Messages:
    def __init__(
        self, mongo: Mongo, log: Log, members: Members, reactions: ReactionLists, *, max_chars: int
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._members = members
        self._reactions = reactions
        self._max_chars = max_chars

    async def send(self, sender_id: str, new: NewMessage) -> Outcome:
        """Store a message, once per clientMessageId, and announce it to its conversation."""
        begun = self.begin_send(sender_id, new)
        return await (begun if isinstance(begun, Future) else await begun)

    def begin_send(self, sender_id: str, new: NewMessage) -> Begun | Awaitable[Begun]:
        """Like `send`, but gives the caller a future that resolves when the message is stored.

        It returns either the future or an awaitable of the future. Messages keep their order if the next
        call is made once the caller has the future of this one.
        """
        self._check_text(new.content, empty_ok=bool(new.attachments))
        doc: Document = {
            "conversationId": new.conversation_id,
            "senderId": sender_id,
            "content": new.content,
        }
        if new.attachments:
            doc["attachments"] = list(new.attachments)
        if new.reply_to:
            doc["replyTo"] = new.reply_to
        if new.mentions:
            doc["mentions"] = list(dict.fromkeys(new.mentions))
        if new.metadata:
            doc["metadata"] = encode(new.metadata).decode()
        if new.client_message_id:
            doc["clientMessageId"] = new.client_message_id
        if new.reply_to is None and self._members.known(sender_id, new.conversation_id):
            return self._log.append(doc)
        return self._send_checked(sender_id, doc)

    async def _send_checked(self, sender_id: str, doc: Document) -> Begun:
        await self._members.require(sender_id, doc["conversationId"])
        if reply_to := doc.get("replyTo"):
            target = await self._mongo.log.find_one(
                {"_id": reply_to, "conversationId": doc["conversationId"], "kind": "message"},
                {"_id": 1},
            )
            if target is None:
                raise ValidationFailed.of("replyTo", "No such message in this conversation.")
        return self._log.append(doc)

    async def edit(self, actor_id: str, edit: MessageEdit) -> Message:
        """Change the text of the actor's own message."""
        self._check_text(edit.content, empty_ok=True)
        await self._members.present(actor_id, conversation_of(edit.message_id))
        return (
            await self._log.change(actor_id, Edit(edit.message_id, actor_id, edit.content))
        ).message

    async def delete(self, actor_id: str, deletion: MessageDeletion) -> Mapping[str, Any]:
        """Delete a message for everyone (only its sender or an admin), or hide it from the actor.

        A repeated deletion changes nothing and is not announced.
        """
        conversation_id = conversation_of(deletion.message_id)
        if deletion.scope == "self":
            member = await self._members.require(actor_id, conversation_id)
            left = await self._hide(member, deletion.message_id)
        else:
            await self._members.present(actor_id, conversation_id)
            change = Delete(deletion.message_id, actor_id, self._reactions)
            left = (await self._log.change(actor_id, change)).message
        return {
            "messageId": left.id,
            "conversationId": left.conversation_id,
            "deletedAt": iso(left.deleted_at) if left.deleted_at else None,
            "scope": deletion.scope,
        }

    async def _hide(self, member: Member, message_id: str) -> Message:
        message = await self._find(message_id)
        (seen,) = await self._as_seen(member.user_id, [message], hides=True)
        if seen.deleted_at:
            return seen
        # The member's flag `hides` comes first: without it, reads do not look for hidden messages.
        await self._members.note_hiding(member)
        outcome = await self._log.change(member.user_id, Hide(message_id, member.user_id))
        if outcome.entry is None:
            (seen,) = await self._as_seen(member.user_id, [outcome.message], hides=True)
            return seen
        return outcome.message

    async def get(self, reader_id: str, message_id: str) -> Message:
        member = await self._members.require(reader_id, conversation_of(message_id))
        message = await self._find(message_id)
        (seen,) = await self._as_seen(reader_id, [message], hides=member.hides)
        return seen

    async def page(self, reader_id: str, asked: PageOfMessages) -> MessagePage:
        """Returns a page in ascending order: the newest messages, or those before or after a message."""
        conversation_id = asked.conversation_id
        hides = await self._members.hiding(reader_id, conversation_id)
        where: Document = {"conversationId": conversation_id, "seq": {"$gte": 1}}
        if asked.after is not None:
            where["seq"] = {"$gt": await self._seq(conversation_id, "after", asked.after)}
        elif asked.before is not None:
            where["seq"] = {
                "$gte": 1,
                "$lt": await self._seq(conversation_id, "before", asked.before),
            }
        page = await self._read(where, "seq", asked.limit, newest=asked.after is None)
        return await self._page_as_seen(reader_id, page, hides=hides)

    async def sync(self, reader_id: str, asked: SyncFrom) -> SyncResult:
        """Returns a page of what follows a position: newer messages, or by `rev` new and changed ones.

        lastSeq and lastRev are read before the page. So a change that arrives in between is in the page
        or newer than they are, and a client that continues from them does not miss it.
        """
        conversation_id = asked.conversation_id
        hides = await self._members.hiding(reader_id, conversation_id)
        seq, rev = await self._log.position(conversation_id)
        if asked.after_rev is not None:
            where: Document = {"conversationId": conversation_id, "rev": {"$gt": asked.after_rev}}
            if not hides and rev > asked.after_rev:
                # lastRev may be that of the reader's first hiding, of which this node has not heard.
                hides = (await self._members.require(reader_id, conversation_id)).hides
            if hides:
                page = await self._changed_since(reader_id, where, asked.limit)
            else:
                page = await self._read(where, "rev", asked.limit, newest=False)
            return SyncResult(conversation_id, page, seq, rev)
        after = asked.after_seq or 0
        if asked.last_message_id is not None:
            after = await self._seq(conversation_id, "lastMessageId", asked.last_message_id)
        where = {"conversationId": conversation_id, "seq": {"$gt": after}}
        page = await self._read(where, "seq", asked.limit, newest=False)
        page = await self._page_as_seen(reader_id, page, hides=hides)
        return SyncResult(conversation_id, page, seq, rev)

    async def _changed_since(self, reader_id: str, where: Document, limit: int) -> MessagePage:
        """Returns the changes that a reader sees who has hidden messages. `where`: the conversation, and the rev.

        Hiding a message is a change that only this reader sees. A hidden message is listed once: at the rev of the
        hiding, or of a later change of the message.
        """
        while True:
            page = await self._read(where, "rev", limit, newest=False)
            seen = await self._as_seen(reader_id, page.messages, hides=True)
            # Last: a message that is hidden meanwhile is listed at both revs, which is better than at none.
            hidings = await self._hidings(reader_id, where, limit + 1)
            ends = [page.messages[-1].rev] if page.has_more else []
            if len(hidings) > limit:
                ends.append(hidings.pop()["lastRev"] - 1)
            end = min(ends, default=None)
            revs = {message.id: message.rev for message in page.messages}
            changes = {message.id: message for message in seen if message.rev == revs[message.id]}
            changes |= await self._stubs(hidings)
            changed = [
                message
                for message in sorted(changes.values(), key=lambda message: message.rev)
                if end is None or message.rev <= end
            ]
            if changed or end is None:
                return MessagePage.of(changed, limit, has_more=end is not None)
            # All of them were hidden later, and so are listed later.
            where["rev"] = {"$gt": end}

    async def _hidings(self, reader_id: str, where: Document, limit: int) -> list[Document]:
        """Returns the first entries by which the reader hid messages. `where`: the conversation, and the rev."""
        place = {"conversationId": where["conversationId"], "lastRev": where["rev"]}
        found = self._mongo.log.find({"hiddenFor": reader_id, **place}).sort("lastRev", 1)
        return await found.limit(limit).to_list(limit)

    async def _stubs(self, hidings: list[Document]) -> dict[str, Message]:
        """Returns the hidden messages. Those that have changed since come at the rev of the change, also if it is later than
        the page: a message that changes during these reads is in none of the others."""
        hides = {doc["messageId"]: doc for doc in hidings}
        found = self._mongo.log.find({"_id": {"$in": list(hides)}})
        messages = [Message(doc) async for doc in found]
        return {
            message.id: message.hidden_by(hides[message.id])
            for message in messages
            if message.deleted_at is None
        }

    async def _read(self, where: Document, order: str, limit: int, *, newest: bool) -> MessagePage:
        cursor = self._mongo.log.find(where).sort(order, -1 if newest else 1).limit(limit + 1)
        found = [Message(doc) for doc in await cursor.to_list(limit + 1)]
        return MessagePage.of(found, limit, newest=newest)

    async def _find(self, message_id: str) -> Message:
        doc = await self._mongo.log.find_one({"_id": message_id, "kind": "message"})
        if doc is None:
            raise NotFound()
        return Message(doc)

    async def _seq(self, conversation_id: str, field: str, given: str) -> int:
        """Returns the seq of a message id of this conversation. A plain number is already a seq."""
        if given.isdecimal() and len(given) <= 15:
            return int(given)
        doc = await self._mongo.log.find_one(
            {"_id": given, "conversationId": conversation_id, "kind": "message"}, {"seq": 1}
        )
        if doc is None:
            raise ValidationFailed.of(field, "No such message in this conversation.")
        return int(doc["seq"])

    async def _page_as_seen(self, reader_id: str, page: MessagePage, *, hides: bool) -> MessagePage:
        if not hides:
            return page
        seen = await self._as_seen(reader_id, page.messages, hides=True)
        return MessagePage(seen, page.has_more)

    async def _as_seen(
        self, reader_id: str, messages: list[Message], *, hides: bool
    ) -> list[Message]:
        """Returns the messages as the reader sees them: messages that the reader hid look deleted."""
        if not hides or not messages:
            return messages
        hidden = {
            doc["messageId"]: doc
            async for doc in self._mongo.log.find(
                {
                    "hiddenFor": reader_id,
                    "conversationId": messages[0].conversation_id,
                    "hiddenSeq": {"$in": [message.seq for message in messages]},
                }
            )
        }
        return [
            message.hidden_by(hidden[message.id]) if message.id in hidden else message
            for message in messages
        ]

    def _check_text(self, content: str, *, empty_ok: bool) -> None:
        if len(content) > self._max_chars:
            raise ValidationFailed.of("content", f"Must have at most {self._max_chars} characters.")
        if not empty_ok and shows_nothing(content):
            raise ValidationFailed.of(
                "content", "Must have a visible character, unless the message has an attachment."
            )
