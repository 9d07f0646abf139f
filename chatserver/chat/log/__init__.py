"""The log: every change of a conversation, stored durably, once and in order.

Each change is one entry: a send, an edit, a deletion, a reaction, or a change of the conversation or
its members. Conversation changes are entries because sockets must get them in order with the messages.
The id of an entry is (conversation, offset), and offsets count 1, 2, 3 … The unique index on ids is
the compare-and-set by which all nodes agree on the order. Entries are never removed from a living
conversation, so no offset is used twice. An entry carries `lastSeq` and `lastRev`: a send raises both,
and another change of a message only `lastRev`.

The entry of a send is the message itself and is kept up to date. So sends need no transaction: one
ordered insert stores many of them. Every other change is an entry beside the message, in one
transaction with the message's new state. An entry is also the outbox record of its change.

Promises:
- When the future of a change resolves, a majority has journaled the change.
- `seq` and `rev` of a conversation have no gaps.
- Changes are announced after the commit, in the order of their offsets, each once.
- A change that fails is not stored, unless it fails with Unavailable. Then it may have been stored, and
  a repeat with the same clientMessageId finds out.

Group commit: a free writer immediately commits the queued changes. Changes that arrive during a commit
form the next batch. A conversation has one batch under way at a time.
"""
