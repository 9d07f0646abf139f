// A Master Service in one file: it signs in users and connects them to the chat server. Node 18 or newer, no packages.
// Replace `users`, `sessions` and `taken` with your database, and what `take` does with an event.
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { CHAT_URL = "http://127.0.0.1:3000", SOCKETS_URL = "http://127.0.0.1:3001" } = process.env;
const [jwtSecret, internalSecret] = ["AUTH_JWT_SECRET", "INTERNAL_API_SECRET"].map(
  (key) => process.env[key].split(",")[0], // the newest
);
const webhookSecrets = process.env.WEBHOOK_SECRET.split(",");

const users = new Map([
  ["alice", { name: "Alice", password: "wonderland" }],
  ["bob", { name: "Bob", password: "builder" }],
]);
const sessions = new Map(); // session cookie → user id
const taken = new Set(); // ids of events that were processed
const TOKEN_S = 600;
const FOR_USERS = /^\/(conversations|messages|presence)(\/|$)|^\/users\/[^/]+\/presence$/;

// --- Users: the chat server gets their names, and each user gets a token. ---

async function syncUsers() { // at the start, and when a user changes
  const rows = [...users].map(([id, { name }]) => ({ externalUserId: id, name }));
  const answer = await fetch(`${CHAT_URL}/api/users/sync/batch`, {
    method: "POST",
    headers: { "X-Internal-Secret": internalSecret, "Content-Type": "application/json" },
    body: JSON.stringify({ users: rows }),
  });
  const done = await answer.json();
  if (!answer.ok || done.failed.length) throw new Error(`users: ${JSON.stringify(done)}`);
}

function tokenOf(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + TOKEN_S };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", jwtSecret).update(text).digest("base64url")}`;
}

// --- The proxy forwards REST requests with the user's own token. ---

async function proxy(user, request, path, query, body) {
  // None of the browser's headers pass: it must not send X-User-Id or X-Internal-Secret.
  const headers = { Authorization: `Bearer ${tokenOf(user)}` };
  if (body.length) headers["Content-Type"] = "application/json";
  const answer = await fetch(`${CHAT_URL}/api${path}${query}`, {
    method: request.method,
    headers,
    body: body.length ? body : undefined,
    redirect: "error",
  });
  const kept = ["content-type", "retry-after"].filter((name) => answer.headers.has(name));
  const back = Object.fromEntries(kept.map((name) => [name, answer.headers.get(name)]));
  return [answer.status, Buffer.from(await answer.arrayBuffer()), back];
}

// --- Webhooks: the chat server posts events. ---

function isGenuine(body, header = "") {
  const parts = header.split(",").slice(0, 20).map((part) => part.trim().split("="));
  const at = parts.find(([name]) => name === "t")?.[1] ?? "";
  if (!/^\d{1,12}$/.test(at) || Math.abs(Date.now() / 1000 - Number(at)) > 300) return false;
  const given = parts.filter(([name]) => name === "v1").map(([, hex]) => Buffer.from(hex ?? "", "hex"));
  return webhookSecrets.some((secret) => {
    const expected = createHmac("sha256", secret).update(`${at}.`).update(body).digest();
    return given.some((signature) => signature.length === expected.length && timingSafeEqual(signature, expected));
  });
}

function take(event) {
  console.log(event.type, event.id); // here: index it, notify a phone …
}

// --- Routes. ---

async function answer(request) {
  const { pathname, search } = new URL(request.url, "http://here"); // URL also resolves ".."
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const route = `${request.method} ${pathname}`;

  if (route === "POST /hooks/chat") {
    if (!isGenuine(body, request.headers["x-webhook-signature"])) return [401];
    const event = JSON.parse(body);
    if (!taken.has(event.id)) take(event);
    taken.add(event.id);
    return [204];
  }
  if (route === "POST /login") {
    const { user, password } = JSON.parse(body);
    if (!password || users.get(user)?.password !== password) return [401];
    const session = randomBytes(32).toString("base64url");
    sessions.set(session, user);
    return [204, "", { "Set-Cookie": `session=${session}; HttpOnly; SameSite=Strict; Path=/` }];
  }
  const user = sessions.get(/(?:^|; )session=([\w-]+)/.exec(request.headers.cookie ?? "")?.[1]);
  if (!user) return [401];
  if (route === "GET /chat-token") return json({ token: tokenOf(user), url: SOCKETS_URL });
  const path = pathname.startsWith("/chat/") ? pathname.slice("/chat".length) : "";
  return FOR_USERS.test(path) ? proxy(user, request, path, search, body) : [404];
}

const json = (value) => [200, JSON.stringify(value), { "Content-Type": "application/json" }];

const server = createServer((request, response) => {
  answer(request)
    .catch((error) => (console.error(error.message), [error instanceof SyntaxError ? 400 : 502]))
    .then(([status, body = "", headers = {}]) => response.writeHead(status, headers).end(body));
});
await syncUsers();
server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
});
