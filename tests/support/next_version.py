"""A later version of the server, which has two more schemas: `python -m tests.support.next_version serve`.

Each of its steps counts the users, in the users themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from chatserver.cli import main
from chatserver.mongo import Document, Mongo, Session
from chatserver.mongo.schema import STEPS, Step, newest

NEWEST = newest() + 2
PER_USER_S = float(os.environ.get("STEP_PER_USER_S", "0"))


async def count(mongo: Mongo, users: Sequence[Document], session: Session) -> None:
    await asyncio.sleep(PER_USER_S * len(users))
    counted = [{**user, "counted": user.get("counted", 0) + 1} for user in users]
    await mongo.put("users", counted, session=session)


if __name__ == "__main__":
    STEPS += [Step(number, "Users are counted", "users", count) for number in (NEWEST - 1, NEWEST)]
    main()
