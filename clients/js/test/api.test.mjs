import assert from "node:assert/strict";
import { test } from "node:test";
import { Api } from "../dist/api.js";
import { Background } from "../dist/background.js";
import { ChatClient, ChatError } from "../dist/index.js";
import { Tokens } from "../dist/tokens.js";

/** An API that returns these answers in turn: `[status, body, headers]`, or an error for `fetch` to throw. */
function setup(mock, ...answers) {
  const asked = [];
  mock.method(globalThis, "fetch", async (url, { headers }) => {
    asked.push(headers.authorization);
    const answer = answers.shift() ?? [200, "{}"];
    if (answer instanceof Error) throw answer;
    const [status, body, more] = answer;
    return new Response(body, { status, headers: more });
  });
  let count = 0;
  const tokens = new Tokens(async () => `token ${++count}`);
  return { api: new Api("https://chat.example/api", tokens), asked };
}

const page = "<html>of the proxy</html>";
for (const [status, code] of [
  [401, "UNAUTHENTICATED"],
  [403, "FORBIDDEN"],
  [404, "NOT_FOUND"],
  [422, "VALIDATION_FAILED"],
  [502, "UNAVAILABLE"],
]) {
  test(`a page of the proxy with ${status} is ${code}`, async ({ mock }) => {
    const { api } = setup(mock, [status, page], [status, page]);
    await assert.rejects(api.request("GET", "/"), { name: "ChatError", code, retryAfterMs: null });
  });
}

test("a proxy's Retry-After is in the error", async ({ mock }) => {
  const { api } = setup(mock, [429, page, { "retry-after": "7" }]);
  await assert.rejects(api.request("GET", "/"), { code: "RATE_LIMITED", temporary: true, retryAfterMs: 7_000 });
});

test("an HTML page instead of JSON is a ChatError", async ({ mock }) => {
  const { api } = setup(mock, [200, page]);
  await assert.rejects(api.request("GET", "/"), { name: "ChatError", code: "VALIDATION_FAILED" });
});

for (const code of ["TOKEN_EXPIRED", "UNAUTHENTICATED"]) {
  test(`after ${code} it is asked again with a new token, once`, async ({ mock }) => {
    const refusal = [401, JSON.stringify({ error: { code, message: "no" } })];
    const { api, asked } = setup(mock, refusal, [200, '{"a":1}'], refusal, refusal);
    assert.deepEqual(await api.request("GET", "/"), { a: 1 });
    await assert.rejects(api.request("GET", "/"), { code });
    assert.deepEqual(asked, ["Bearer token 1", "Bearer token 2", "Bearer token 2", "Bearer token 3"]);
  });
}

test("the client repeats its own requests until there is an answer, or no connection", async ({ mock }) => {
  const away = new TypeError("fetch failed");
  const { api } = setup(mock, away, [503, page], away, away, [200, "[1]"], ...Array(9).fill([503, page]));
  const errors = [];
  const connection = { online: true, pause: async () => undefined };
  const background = new Background(api, connection, (error) => errors.push(error.code));
  assert.deepEqual(await background.ask("GET", "/"), [1]);
  // Reported once: the API may not exist at all.
  assert.deepEqual(errors, ["OFFLINE"]);
  let pauses = 0;
  connection.pause = async () => void (connection.online = ++pauses < 3);
  await assert.rejects(background.ask("GET", "/"), { code: "OFFLINE" });
  assert.equal(pauses, 3);
});

test("a getToken that never settles does not block the next request", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let asked = 0;
  const tokens = new Tokens(() => (++asked === 1 ? new Promise(() => undefined) : Promise.resolve("second")));
  const first = assert.rejects(tokens.fresh(), (error) => error instanceof ChatError && error.code === "NO_TOKEN");
  mock.timers.tick(20_000);
  await first;
  assert.equal(await tokens.fresh(), "second");
});

test("pages of reactions and readers are asked for with what was given, encoded", async ({ mock }) => {
  const asked = [];
  const page = { items: [], nextCursor: null };
  mock.method(globalThis, "fetch", async (url) => {
    asked.push(url);
    return new Response(JSON.stringify(page));
  });
  const chat = new ChatClient({ url: "https://chat.example", api: "/api", getToken: async () => "token" });
  assert.deepEqual(await chat.reactions("m/1"), page);
  await chat.reactions("m1", { emoji: "👍", limit: 2, cursor: "a&b" });
  await chat.readers("m1", { cursor: undefined, limit: 200 });
  await chat.readers("m1");
  assert.deepEqual(asked, [
    "/api/messages/m%2F1/reactions",
    "/api/messages/m1/reactions?emoji=%F0%9F%91%8D&limit=2&cursor=a%26b",
    "/api/messages/m1/read?limit=200",
    "/api/messages/m1/read",
  ]);
});
