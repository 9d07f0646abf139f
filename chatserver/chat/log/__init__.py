"""The log: every change of a conversation, durable, once, in order.

One entry per change: a send, an edit, a deletion, a reaction. The entry's id is
(conversation, rev), so the unique index on ids is the compare-and-set by which all nodes agree on
the order; entries are never removed from a living conversation, so no rev is ever given twice.
The entry of a send is the message itself, kept up to date: sends need no transaction, only one
ordered insert for many of them. Every other change is an entry beside the message and goes into one
transaction with the message's new state. An entry is also the outbox record of its change.

Promises. A future that resolves: the change is journaled by a majority. `seq` and `rev` of a
conversation have no gaps but for revs spent on `fence` entries. Changes are announced after the
commit, in rev order, each once. A change that fails leaves nothing behind, except with Unavailable:
then it may have been stored, and a repeat with the same clientMessageId finds out.

Group commit: a writer that is free commits at once what there is; what comes meanwhile is the next
batch. A conversation has one batch under way.
"""
