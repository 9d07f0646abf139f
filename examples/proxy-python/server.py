"""A Master Service in one file: it signs in users and connects them to the chat server. Needs aiohttp and PyJWT.

Replace `users`, `sessions` and `taken` with your database, and what `hook` does with an event.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from urllib.parse import unquote

import jwt
from aiohttp import ClientSession, web
from yarl import URL

CHAT_URL = os.environ.get("CHAT_URL", "http://127.0.0.1:3000")
SOCKETS_URL = os.environ.get("SOCKETS_URL", "http://127.0.0.1:3001")
JWT_SECRET = os.environ["AUTH_JWT_SECRET"].split(",")[0]  # the newest
INTERNAL_SECRET = os.environ["INTERNAL_API_SECRET"].split(",")[0]
WEBHOOK_SECRETS = os.environ["WEBHOOK_SECRET"].split(",")
TOKEN_S = 600
FOR_USERS = re.compile(r"(conversations|messages|presence)(/.*)?|users/[^/]+/presence")

users = {"alice": ("Alice", "wonderland"), "bob": ("Bob", "builder")}  # name, password
sessions: dict[str, str] = {}  # session cookie -> user id
taken: set[str] = set()  # ids of events that were processed
chat = web.AppKey("chat", ClientSession)


# Users: the chat server gets their names, and each user gets a token.
async def sync_users(http: ClientSession) -> None:  # at the start, and when a user changes
    rows = [{"externalUserId": user_id, "name": name} for user_id, (name, _) in users.items()]
    headers, url = {"X-Internal-Secret": INTERNAL_SECRET}, f"{CHAT_URL}/api/users/sync/batch"
    async with http.post(url, json={"users": rows}, headers=headers) as answer:
        done = await answer.json()
        if not answer.ok or done["failed"]:
            raise RuntimeError(f"users: {done}")


def token_of(user: str) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + TOKEN_S}, JWT_SECRET, "HS256")


async def login(request: web.Request) -> web.Response:
    asked = await request.json()
    _, password = users.get(asked["user"], ("", ""))
    if not password or not hmac.compare_digest(password.encode(), asked["password"].encode()):
        raise web.HTTPUnauthorized
    session = secrets.token_urlsafe(32)
    sessions[session] = asked["user"]
    response = web.Response(status=204)
    response.set_cookie("session", session, httponly=True, samesite="Strict")
    return response


def signed_in(request: web.Request) -> str:
    if user := sessions.get(request.cookies.get("session", "")):
        return user
    raise web.HTTPUnauthorized


async def chat_token(request: web.Request) -> web.Response:
    return web.json_response({"token": token_of(signed_in(request)), "url": SOCKETS_URL})


# The proxy forwards REST requests with the user's own token.
async def proxy(request: web.Request) -> web.Response:
    # None of the browser's headers pass: it must not send X-User-Id or X-Internal-Secret.
    headers = {"Authorization": f"Bearer {token_of(signed_in(request))}"}
    path = request.rel_url.raw_path.removeprefix("/chat/")
    if not FOR_USERS.fullmatch(path) or {".", ".."} & {*unquote(path).split("/")}:
        raise web.HTTPNotFound
    if body := await request.read():
        headers["Content-Type"] = "application/json"
    url = URL(f"{CHAT_URL}/api/{path}?{request.rel_url.raw_query_string}", encoded=True)
    async with request.app[chat].request(
        request.method, url, data=body or None, headers=headers, allow_redirects=False
    ) as reply:
        kept = {k: reply.headers[k] for k in ("Content-Type", "Retry-After") if k in reply.headers}
        return web.Response(status=reply.status, body=await reply.read(), headers=kept)


# Webhooks: the chat server posts events.
def is_genuine(body: bytes, header: str) -> bool:
    parts = [part.strip().partition("=") for part in header.split(",")[:20]]
    at = next((value for name, _, value in parts if name == "t"), "")
    if not re.fullmatch("[0-9]{1,12}", at) or abs(time.time() - int(at)) > 300:
        return False
    text = at.encode() + b"." + body
    expected = [hmac.digest(key.encode(), text, hashlib.sha256).hex() for key in WEBHOOK_SECRETS]
    given = [value.encode() for name, _, value in parts if name == "v1"]
    return any(hmac.compare_digest(mac.encode(), sent) for mac in expected for sent in given)


async def hook(request: web.Request) -> web.Response:
    body = await request.read()
    if not is_genuine(body, request.headers.get("X-Webhook-Signature", "")):
        raise web.HTTPUnauthorized
    event = json.loads(body)
    if event["id"] not in taken:
        print(event["type"], event["id"], flush=True)  # here: index it, notify a phone ...
    taken.add(event["id"])
    return web.Response(status=204)


async def life(app: web.Application):
    async with ClientSession() as app[chat]:
        await sync_users(app[chat])
        yield


app = web.Application()
app.cleanup_ctx.append(life)
app.add_routes([web.post("/login", login), web.get("/chat-token", chat_token)])
app.add_routes([web.route("*", "/chat/{path:.*}", proxy), web.post("/hooks/chat", hook)])
web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
