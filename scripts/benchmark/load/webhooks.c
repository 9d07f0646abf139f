#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char endpoint[] = "POST /chat ", yes[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static FILE *kept;
static long n_events, n_lags, room;
static double *lags, last, since;

/* Posts to other paths are only counted and answered. */
static size_t received(Connection *c, char *bytes, size_t n) {
  char *end = memmem(bytes, n, "\r\n\r\n", 4);
  if (!end) return 0;
  *end = 0;
  char *length = strcasestr(bytes, "\ncontent-length:");
  if (!length) die("a webhook without a Content-Length: %.200s", bytes);
  size_t size = strtoul(length + 16, NULL, 10);
  *end = '\r';
  char *body = end + 4;
  if (n < (size_t)(body - bytes) + size) return 0;
  network_send(c, yes, sizeof yes - 1);
  n_events++;
  last = now();
  if (starts(bytes, n, endpoint)) {
    double lag = chat_told(body, size);
    if (n_lags == room) lags = grown(lags, (room = room * 2 + 4096) * sizeof *lags);
    if (lag >= 0) lags[n_lags++] = lag;
    if (kept) fwrite(body, 1, size, kept), putc('\n', kept);
  }
  return body - bytes + size;
}

void webhooks_keep(const char *file) {
  if (strcmp(file, "-") && !(kept = fopen(file, "w"))) die("%s cannot be written", file);
  since = now();
}

void webhooks_wait(long events, double seconds) {
  double end = now() + seconds;
  for (double t; n_events < events && (t = now()) < end;) network_turn(end - t);
  if (n_events < events) bad("%ld of %ld events arrived in %.0f s", n_events, events, seconds);
  if (kept) fflush(kept);
  double p50 = percentile(lags, n_lags, .5), p99 = percentile(lags, n_lags, .99);
  printf("{\"events\":%ld,\"seconds\":%.4f,\"p50\":%.3f,\"p99\":%.3f,\"bad\":%ld,\"complaint\":\"%s\"}\n",
         n_events, last - since, p50, p99, tally.bad, tally.complaint);
  fflush(stdout);
  tally.bad = 0, tally.complaint[0] = 0;
  n_events = n_lags = 0;
  since = now();
}

const Protocol webhooks = {.received = received};
