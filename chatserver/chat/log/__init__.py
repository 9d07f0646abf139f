"""The log: every change of a conversation, durable, once, in order.

One entry per change: a send, an edit, a deletion, a reaction, and (for the sockets' sake, who must
see them in order with all else) a change of the conversation itself or of who is in it. The entry's
id is (conversation, offset), and offsets count 1, 2, 3 …, so the unique index on ids is the
compare-and-set by which all nodes agree on the order; entries are never removed from a living
conversation, so no offset is ever given twice. Of an entry's `lastSeq` and `lastRev`, sends raise both
and other changes of messages the second.
The entry of a send is the message itself, kept up to date: sends need no transaction, only one
ordered insert for many of them. Every other change is an entry beside the message and goes into one
transaction with the message's new state. An entry is also the outbox record of its change.

Promises. A future that resolves: the change is journaled by a majority. `seq` and `rev` of a
conversation have no gaps. Changes are announced after the commit, in the order of their offsets, each
once. A change that fails leaves nothing behind, except with Unavailable:
then it may have been stored, and a repeat with the same clientMessageId finds out.

Group commit: a writer that is free commits at once what there is; what comes meanwhile is the next
batch. A conversation has one batch under way.
"""
