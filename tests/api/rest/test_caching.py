"""Nothing that a caller receives over HTTP may be kept by a cache."""

from __future__ import annotations

from typing import Any

from tests.support.people import People


async def test_no_answer_may_be_cached(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    messages = f"/api/conversations/{talk['id']}/messages"
    bearer = {"Authorization": f"Bearer {alice.token}"}
    seen: dict[int, list[Any]] = {}
    for method, path, headers, body in (
        ("GET", "/api/conversations", bearer, None),
        ("GET", messages, bearer, None),
        ("POST", messages, bearer, b'{"content": "Hello"}'),
        ("POST", messages, bearer, b"{}"),
        ("POST", messages, bearer, bytes(300_000)),
        ("POST", "/api/users/sync", {}, bytes(5_000_000)),
        ("DELETE", f"/api/conversations/{talk['id']}/participants/{alice.id}", bearer, None),
        ("GET", "/api/conversations", {}, None),
        ("GET", "/api/conversations/none", bearer, None),
        ("GET", "/api/nonsense", bearer, None),
        ("PUT", "/api/conversations", bearer, None),
        ("GET", f"/api/users/{alice.id}", {}, None),
        ("GET", "/ready", {}, None),
        ("GET", "/metrics", {}, None),
        ("GET", "/playground/people", {}, None),
    ):
        url = people.server.rest + path
        async with people.session.request(method, url, headers=headers, data=body) as answer:
            caching = answer.headers.getall("Cache-Control", [])
            assert caching == ["no-store"], (method, path, caching)
            seen.setdefault(answer.status, []).append(path)
    assert {200, 201, 400, 401, 404, 413} <= set(seen), seen
    # The port for clients, too.
    for path in ("/health", "/nonsense"):
        async with people.session.get(people.server.sockets + path) as answer:
            assert answer.headers.getall("Cache-Control") == ["no-store"]
