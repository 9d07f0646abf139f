#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double pages_until;

void pages_ask(Connection *c) {
  char request[4096];
  c->asked = now();
  tally.started++;
  network_send(c, request,
               snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n\r\n",
                        c->path, c->token));
}

static void opened(Connection *c) {
  c->stage = READY;
  tally.ready++;
}

/* A page is correct if its status is 200 and it has the requested number of messages. */
static size_t received(Connection *c, char *bytes, size_t n) {
  char *end = memmem(bytes, n, "\r\n\r\n", 4);
  if (!end) return 0;
  *end = 0;
  char *length = strcasestr(bytes, "\ncontent-length:");
  if (!length) die("a response without a Content-Length: %.200s", bytes);
  size_t size = strtoul(length + 16, NULL, 10);
  *end = '\r';
  char *body = end + 4;
  if (n < (size_t)(body - bytes) + size) return 0;
  int items = 0;
  for (char *at = body; (at = memmem(at, body + size - at, "\"seq\":", 6)); at += 6) items++;
  if (!starts(bytes, n, "HTTP/1.1 200") || items != c->page_size)
    bad("a page of %d messages, not %d: %.40s", items, c->page_size, bytes);
  tally.bytes += size;
  done(now() - c->asked);
  if (now() < pages_until) pages_ask(c);
  return body - bytes + size;
}

const Protocol pages = {opened, received};
