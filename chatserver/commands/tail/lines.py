"""Formats an event as a line for people: time, user, message number, text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from .follower import SYNCED, Happened
from .screen import on_one_line

KNOWN = 10_000
"""Messages whose seq is remembered, for later events that name only their id."""
WHO = 12
NOBODY = "-"


class Lines:
    """`conversation`: its state at the start."""

    def __init__(self, conversation: Mapping[str, Any]) -> None:
        self.conversation = conversation
        self._seqs: OrderedDict[str, int] = OrderedDict()
        self._newest = 0

    def line(self, happened: Happened) -> Text:
        data = happened.data
        at, who, what = _sentence(happened.event, data, self)
        number = self.number(data.get("messageId") or data.get("upToMessageId") or data.get("id"))
        return Text.assemble(
            (f"{_clock(at)}  ", "dim"),
            (f"{on_one_line(who):<{WHO}}  ", "bold"),
            (f"{number:>5}  ", "dim"),
            on_one_line(what),
        )

    def number(self, message_id: Any) -> str:
        seq = self._seqs.get(message_id)
        return f"#{seq}" if seq else ""

    def know(self, message: Mapping[str, Any]) -> bool:
        """Remember a message. Returns True if it is newer than all before."""
        self._seqs[message["id"]] = message["seq"]
        if len(self._seqs) > KNOWN:
            self._seqs.popitem(last=False)
        newer = message["seq"] > self._newest
        self._newest = max(self._newest, message["seq"])
        return newer


def _sentence(event: str, data: Mapping[str, Any], lines: Lines) -> tuple[str | None, str, str]:
    """Time, user, text."""
    who = data.get("userId") or NOBODY
    at = data.get("timestamp") or data.get("readAt")
    match event:
        case "message:new":
            lines.know(data)
            return data["createdAt"], data["senderId"], _content(data, lines)
        case _ if event == SYNCED:
            if lines.know(data):
                return data["createdAt"], data["senderId"], _state(data, lines)
            return data["updatedAt"], data["senderId"], f"is now: {_state(data, lines)}"
        case "message:updated":
            return data["updatedAt"], NOBODY, f"edited: {data['content']}"
        case "message:deleted":
            return data["deletedAt"], NOBODY, "deleted"
        case "reaction:added" | "reaction:removed":
            mark = "+" if event == "reaction:added" else "-"
            return at, who, f"{mark} {data['emoji']}  ({data['totalCount']})"
        case "message:read":
            return at, who, "has read it"
        case "conversation:read":
            return at, who, "has read everything up to it"
        case "user:typing" | "user:recording":
            doing = "is" if data["isActive"] else "stops"
            return at, who, f"{doing} {data['type']}"
        case "user:online" | "user:offline":
            return at, who, f"is {event.partition(':')[2]}"
        case "participant:added":
            return at, who, "is now in the conversation"
        case "participant:removed":
            return at, who, "is no longer in the conversation"
        case "participants:changed":
            return at, NOBODY, f"{data['participantCount']} participants"
        case "conversation:updated":
            before, lines.conversation = lines.conversation, data
            return data["updatedAt"], NOBODY, _difference(before, data)
        case "conversation:removed":
            return at, NOBODY, "this user is no longer in the conversation"
    return at, who, event


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The changed roles and name. Changes of the picture and the metadata are not described."""
    roles = {participant["userId"]: participant["role"] for participant in before["participants"]}
    found = [
        f"{participant['userId']} is {participant['role']} now"
        for participant in now["participants"]
        # A view has 100 participants. The others were members; so are those who have joined since.
        if roles.get(participant["userId"], "member") != participant["role"]
    ]
    if now["name"] != before["name"]:
        name = now["name"]
        found.append(f"the conversation is called {name!r} now" if name else "the name was removed")
    return ", ".join(found) or "the conversation was changed"


def _state(message: Mapping[str, Any], lines: Lines) -> str:
    if message["isDeleted"]:
        return "(deleted)"
    reactions = "".join(
        f"  {reaction['emoji']} {reaction['count']}" for reaction in message["reactions"]
    )
    return _content(message, lines) + ("  (edited)" if message["isEdited"] else "") + reactions


def _content(message: Mapping[str, Any], lines: Lines) -> str:
    reply = message["replyTo"]
    # The replied-to message may be older than all that were shown.
    parts = [f"(to {lines.number(reply) or 'an older one'})"] if reply else []
    parts += [message["content"]] if message["content"] else []
    parts += [
        f"[{attachment['type']} {attachment.get('name') or attachment['url']}]"
        for attachment in message["attachments"]
    ]
    return " ".join(parts)


def _clock(at: str | None) -> str:
    """In this machine's time zone; with the date if it is not today."""
    now = datetime.now().astimezone()
    moment = datetime.fromisoformat(at).astimezone() if at else now
    return moment.strftime("%H:%M:%S" if moment.date() == now.date() else "%Y-%m-%d %H:%M:%S")
