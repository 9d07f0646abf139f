/* usage: load WS_PORT HTTP_PORT
 *
 * It reads lines from stdin. Lines of the plan get no answer:
 *   user TOKEN                      a chat client; the first has index 0
 *   conversation ID INDEX...        a conversation and its clients
 *   page SIZE TOKEN PATH            an HTTP reader of a page of SIZE messages
 *   receive PORT FILE               be a webhook endpoint; the bodies go to FILE, unless it is -
 *   at PORT                         the port for chat clients that are added from now on
 *   writers N                       only the first N members of a conversation write and type
 *   among FIRST COUNT               use only these conversations from now on; allowed between phases
 *   storm KIND [SECONDS]            the next open phase has a storm: read, read-all, leave, join, typing, connect;
 *                                   its members are spread over so many seconds
 *   spin                            never sleep in a phase, so that no server pays for waking a client
 *   offer                           offer per-message deflate, as browsers do
 * A phase is answered with one line of JSON when it is over:
 *   connect IN_FLIGHT               opens every connection that is not open yet
 *   fill EACH IN_FLIGHT SIZE        EACH messages to every conversation, in turn
 *   closed SECONDS IN_FLIGHT SIZE   messages of SIZE bytes; the next when one is acknowledged
 *   open SECONDS PER_SECOND SIZE    messages at fixed times, whatever the server does
 *   room SECONDS IN_FLIGHT SIZE     to the first conversation; the next when all members have received one
 *   typing SECONDS PER_SECOND       typing starts and stops at fixed times
 *   rivals SECONDS IN_FLIGHT SIZE   to the first conversation; IN_FLIGHT messages of each member
 *   pages SECONDS                   every reader requests a page, reads it, requests it again
 *   idle SECONDS                    only answers pings
 *   events N SECONDS                waits for N webhooks since the last answer to this, for at most SECONDS
 * It exits at the end of stdin.
 */
#define _GNU_SOURCE
#include "load.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CONNECT_S = 120, FILL_S = 120, DRAIN_S = 10, STORM_S = 1 };
enum { HEARD_PER_MS = 20, HEARD_MS = 2000 };

Tally tally;
Connection *connections;
Conversation *conversations;
int n_connections, n_conversations;

static int writers = INT_MAX, among_first, among_count = INT_MAX;

double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

void die(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  vfprintf(stderr, format, rest);
  fputc('\n', stderr);
  exit(1);
}

void *grown(void *old, size_t bytes) {
  void *bigger = realloc(old, bytes);
  if (!bigger) die("out of memory");
  return bigger;
}

void bad(const char *format, ...) {
  if (tally.bad++) return;
  va_list rest;
  va_start(rest, format);
  vsnprintf(tally.complaint, sizeof tally.complaint, format, rest);
  va_end(rest);
  for (char *c = tally.complaint; *c; c++) /* the text is printed inside a JSON string */
    if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || (unsigned char)*c > '~') *c = '\'';
}

void done(double latency) {
  Tally *t = &tally;
  if (t->n_latencies == t->room) {
    t->room = t->room * 2 + 4096;
    t->latencies = grown(t->latencies, t->room * sizeof(double));
  }
  t->latencies[t->n_latencies++] = latency;
  t->done++;
}

bool starts(const char *text, size_t n, const char *with) {
  size_t length = strlen(with);
  return n >= length && !memcmp(text, with, length);
}

/* Histograms of delivery times, to clients on the sender's port and on others. The last bucket: longer. */
static int heard_near[HEARD_MS * HEARD_PER_MS + 1], heard_far[HEARD_MS * HEARD_PER_MS + 1];

void heard(double latency, bool far) {
  double step = latency * 1e3 * HEARD_PER_MS;
  (far ? heard_far : heard_near)[step < HEARD_MS * HEARD_PER_MS ? (int)step : HEARD_MS * HEARD_PER_MS]++;
}

static double heard_percentile(const int *after, double p) { /* in ms */
  long total = 0, below = 0;
  int step = 0;
  for (int i = 0; i <= HEARD_MS * HEARD_PER_MS; i++) total += after[i];
  while (step < HEARD_MS * HEARD_PER_MS && (below += after[step]) <= total * p) step++;
  return total ? (double)step / HEARD_PER_MS : 0;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double percentile(double *latencies, long n, double p) {
  qsort(latencies, n, sizeof *latencies, by_value);
  return n ? latencies[(long)((n - 1) * p)] * 1e3 : 0;
}

/* seconds: length of the phase. drained: until its last packet had arrived. done_in_time: operations done
 * in `seconds`; done: in `drained`. heard: time from a message to its delivery to a client on the sender's
 * port; far: on another port. least, most: acknowledgements per client that had any. */
static void answer(double seconds, double drained, long done_in_time) {
  double max = percentile(tally.latencies, tally.n_latencies, 1);
  double p50 = percentile(tally.latencies, tally.n_latencies, .5);
  double p99 = percentile(tally.latencies, tally.n_latencies, .99);
  long least = 0, most = 0;
  for (int i = 0; i < n_connections; connections[i++].acked = 0) {
    long acked = connections[i].acked;
    if (acked && (!least || acked < least)) least = acked;
    if (acked > most) most = acked;
  }
  printf("{\"seconds\":%.4f,\"drained\":%.4f,\"done_in_time\":%ld,\"done\":%ld,\"ready\":%ld,"
         "\"delivered\":%ld,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"storm\":%.3f,\"heard50\":%.2f,\"heard99\":%.2f,"
         "\"far50\":%.2f,\"far99\":%.2f,\"least\":%ld,\"most\":%ld,"
         "\"pings\":%ld,\"bytes\":%ld,\"bad\":%ld,\"complaint\":\"%s\"}\n",
         seconds, drained, done_in_time, tally.done, tally.ready, tally.delivered, p50, p99, max, storm.seconds,
         heard_percentile(heard_near, .5), heard_percentile(heard_near, .99),
         heard_percentile(heard_far, .5), heard_percentile(heard_far, .99), least, most, tally.pings,
         tally.bytes, tally.bad, tally.complaint);
  storm = (Storm){0};
  memset(heard_near, 0, sizeof heard_near);
  memset(heard_far, 0, sizeof heard_far);
  fflush(stdout);
  tally = (Tally){.latencies = tally.latencies, .room = tally.room};
}

/* The same sequence in every run, so that both servers get the same load. */
static uint32_t chance(uint32_t below) {
  static uint32_t state = 88172645;
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state % below;
}

static int writers_of(int conversation) {
  int members = conversations[conversation].n_members;
  return members < writers ? members : writers;
}

static int count(void) { /* conversations in use */
  int there = n_conversations - among_first;
  return there < among_count ? there : among_count;
}

static void send_one(int conversation, int size, double due) {
  chat_send(conversation, chance(writers_of(conversation)), size, due);
}

static int any(void) { return among_first + chance(count()); }

/* Waits up to DRAIN_S for the operations in flight. Those that have not arrived then count as errors. */
static void drain(double began) {
  double seconds = now() - began, end = now() + DRAIN_S;
  long in_time = tally.done;
  Tally *t = &tally;
  while (now() < end && (t->done < t->started || t->delivered < t->expected || storm.answered < storm.asked)) {
    storm_go_on();
    network_turn(.05);
  }
  long lost = labs(t->started - t->done) + labs(t->expected - t->delivered) + storm.asked - storm.answered;
  if (lost) {
    bad("%ld of %ld answered, %ld of %ld delivered", t->done, t->started, t->delivered, t->expected);
    t->bad += lost - 1;
  }
  answer(seconds, now() - began, in_time);
}

static void connect_all(int in_flight) {
  double began = now();
  int next = 0, opened = 0;
  long want = 0;
  for (int i = 0; i < n_connections; i++) want += connections[i].stage == NEW;
  while (tally.ready + tally.closed < want && now() - began < CONNECT_S) {
    for (; next < n_connections && opened - tally.ready - tally.closed < in_flight; next++)
      if (connections[next].stage == NEW) network_open(&connections[next]), opened++;
    network_turn(.2);
  }
  if (tally.ready < want) bad("%ld of %ld connected", tally.ready, want);
  double seconds = now() - began;
  answer(seconds, seconds, tally.ready);
}

static void fill(int each, int in_flight, int size) {
  double began = now();
  long total = (long)each * count();
  while (tally.done < total && now() - began < FILL_S) {
    while (tally.started < total && tally.started - tally.done < in_flight)
      send_one(among_first + tally.started % count(), size, now());
    network_turn(1);
  }
  drain(began);
}

static void closed_loop(double seconds, int in_flight, int size) {
  double began = now(), end = began + seconds;
  for (double t; (t = now()) < end; network_turn(end - t))
    while (tally.started - tally.done < in_flight) send_one(any(), size, now());
  drain(began);
}

/* A message's time counts from when it was due, so that late sends do not hide a stalled server. */
static void open_loop(double seconds, double per_second, int size) {
  double began = now();
  long total = seconds * per_second;
  for (long i = 0; i < total; network_turn(began + i / per_second - now())) {
    if (storm.due && now() - began > STORM_S) storm_begin();
    storm_go_on();
    for (; i < total && began + i / per_second <= now(); i++)
      send_one(any(), size, began + i / per_second);
  }
  drain(began);
}

static void in_room(double seconds, int in_flight, int size) {
  double began = now(), end = began + seconds;
  for (double t; (t = now()) < end; network_turn(end - t))
    while (tally.started - tally.complete < in_flight)
      chat_send(0, tally.started % conversations[0].n_members, size, now());
  drain(began);
}

/* Every member has its own messages in flight; `least` and `most` show the share of each. */
static void rivals(double seconds, int in_flight, int size) {
  double began = now(), end = began + seconds;
  for (double t; (t = now()) < end; network_turn(end - t))
    for (int member = 0; member < conversations[0].n_members; member++)
      while (connections[conversations[0].members[member]].under_way < in_flight)
        chat_send(0, member, size, now());
  drain(began);
}

/* A start, then the stop of the same member, so that every event changes something. */
static void typing(double seconds, double per_second) {
  double began = now();
  long total = seconds * per_second;
  for (long i = 0; i < total; network_turn(began + i / per_second - now()))
    for (; i < total && began + i / per_second <= now(); i++) {
      int in = among_first + i / 2 % count();
      chat_type(in, i / 2 / count() % writers_of(in), i % 2 == 0);
    }
  drain(began);
}

static void read_pages(double seconds) {
  double began = now();
  pages_until = began + seconds;
  for (int i = 0; i < n_connections; i++)
    if (connections[i].protocol == &pages) pages_ask(&connections[i]);
  for (double t; (t = now()) < pages_until;) network_turn(pages_until - t);
  drain(began);
}

static void idle(double seconds) {
  double began = now();
  for (double t; (t = now()) < began + seconds;) network_turn(began + seconds - t);
  answer(seconds, seconds, tally.pings);
}

static void add_conversation(char *words) {
  conversations = grown(conversations, (n_conversations + 1) * sizeof *conversations);
  Conversation *new = &conversations[n_conversations];
  *new = (Conversation){.id = strdup(strtok_r(words, " ", &words))};
  for (char *word; (word = strtok_r(NULL, " ", &words)); new->n_members++) {
    Connection *c = &connections[atoi(word)];
    new->members = grown(new->members, (new->n_members + 1) * sizeof(int));
    new->members[new->n_members] = atoi(word);
    c->memberships = grown(c->memberships, (c->n_memberships + 1) * sizeof(Membership));
    c->memberships[c->n_memberships++] = (Membership){.conversation = n_conversations};
  }
  n_conversations++;
}

static Connection *add_connection(int port, const Protocol *protocol) {
  /* epoll has pointers into the array, so it must not move once the first connection is open. */
  if (n_connections && connections[0].stage != NEW) die("the plan must come before the first phase");
  connections = grown(connections, (n_connections + 1) * sizeof *connections);
  connections[n_connections] = (Connection){.port = port, .protocol = protocol};
  return &connections[n_connections++];
}

static void obey(char *line, int ws_port, int http_port) {
  static int node_port;
  char token[2048], path[1024];
  double seconds = 0, rate = 0;
  int a = 0, b = 0, size = 0;
  if (sscanf(line, "user %2047s", token) == 1)
    add_connection(node_port ? node_port : ws_port, &chat)->token = strdup(token);
  else if (sscanf(line, "at %d", &a) == 1) node_port = a;
  else if (sscanf(line, "writers %d", &a) == 1) writers = a;
  else if (sscanf(line, "among %d %d", &a, &b) == 2) among_first = a, among_count = b;
  else if (sscanf(line, "page %d %2047s %1023s", &a, token, path) == 3) {
    Connection *c = add_connection(http_port, &pages);
    c->page_size = a, c->token = strdup(token), c->path = strdup(path);
  } else if (starts(line, strlen(line), "conversation ")) add_conversation(line + 13);
  else if (sscanf(line, "connect %d", &a) == 1) connect_all(a);
  else if (sscanf(line, "fill %d %d %d", &a, &b, &size) == 3) fill(a, b, size);
  else if (sscanf(line, "receive %d %1023s", &a, path) == 2) webhooks_keep(path), network_listen(a, &webhooks);
  else if (sscanf(line, "events %d %lf", &a, &seconds) == 2) webhooks_wait(a, seconds);
  else if (sscanf(line, "closed %lf %d %d", &seconds, &a, &size) == 3) closed_loop(seconds, a, size);
  else if (sscanf(line, "open %lf %lf %d", &seconds, &rate, &size) == 3) open_loop(seconds, rate, size);
  else if (sscanf(line, "room %lf %d %d", &seconds, &a, &size) == 3) in_room(seconds, a, size);
  else if (sscanf(line, "rivals %lf %d %d", &seconds, &a, &size) == 3) rivals(seconds, a, size);
  else if (sscanf(line, "typing %lf %lf", &seconds, &rate) == 2) typing(seconds, rate);
  else if (sscanf(line, "storm %15s %lf", path, &seconds) >= 1) storm_next(path, seconds);
  else if (!strcmp(line, "spin")) spinning = true;
  else if (!strcmp(line, "offer")) offering = true;
  else if (sscanf(line, "pages %lf", &seconds) == 1) read_pages(seconds);
  else if (sscanf(line, "idle %lf", &seconds) == 1) idle(seconds);
  else die("not understood: %s", line);
}

int main(int argc, char **argv) {
  if (argc != 3) die("usage: load WS_PORT HTTP_PORT");
  /* Clients must answer pings between phases too, so poll them together with stdin. */
  struct pollfd ways[] = {{.fd = 0, .events = POLLIN}, {.fd = network_start(), .events = POLLIN}};
  char *lines = NULL;
  size_t n = 0, room = 0;
  while (poll(ways, 2, -1) > 0) {
    if (ways[1].revents) network_turn(0);
    if (!ways[0].revents) continue;
    if (room < n + 65536) lines = grown(lines, room = n * 2 + 65536);
    ssize_t got = read(0, lines + n, room - n);
    if (got <= 0) return 0;
    n += got;
    for (char *end; (end = memchr(lines, '\n', n));) {
      *end = 0;
      obey(lines, atoi(argv[1]), atoi(argv[2]));
      n -= end + 1 - lines;
      memmove(lines, end + 1, n);
    }
  }
}
