"""The permission policy: what a member may do in their conversation, and to whom.

Every question is about a member who has been loaded, and is answered without another read. Load the member
in the transaction of the change, so that the answer is the one at the offset of its entry: a role that was
lost before counts no more, on any node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..errors import Forbidden
from .membership import Member, Role

Permission = Literal[
    "createInvites",  # add participants
    "deleteConversation",  # for everyone: admins change a conversation, but only the owner ends it
    "kickMembers",  # remove participants of a lower rank
    "manageChannels",  # change the name, avatar and metadata
    "manageMessages",  # delete the messages of others for everyone
    "manageRoles",  # change roles, and add users with a role other than member
]

_ADMIN: frozenset[Permission] = frozenset(
    {"createInvites", "kickMembers", "manageChannels", "manageMessages"}
)
_ROLES: Mapping[Role, frozenset[Permission]] = {
    "member": frozenset(),
    "admin": _ADMIN,
    "owner": _ADMIN | {"deleteConversation", "manageRoles"},
}
"""The permissions of each role, the lowest rank first. In a direct conversation, which has no roles, nobody may."""

_RANKS = {role: rank for rank, role in enumerate(_ROLES)}


def permissions(member: Member) -> frozenset[Permission]:
    return frozenset() if member.direct else _ROLES[member.role]


def allows(member: Member, permission: Permission) -> bool:
    return permission in permissions(member)


def require(member: Member, permission: Permission) -> None:
    """Raises Forbidden unless the member has the permission."""
    if allows(member, permission):
        return
    if member.direct:
        raise Forbidden("A direct conversation cannot be changed.")
    lowest = next(role for role, allowed in _ROLES.items() if permission in allowed)
    raise Forbidden(f"This needs the role {lowest}.")


def rank(member: Member) -> int:
    return _RANKS[member.role]


def outranks(member: Member, other: Member) -> bool:
    """True if the member may act on the other: nobody acts on a member of an equal or higher rank."""
    return rank(member) > rank(other)
