/* The load generator: many Socket.IO clients and keep-alive HTTP readers in one thread.
 *
 * It shares its CPU with mongod, so it must cost next to nothing: one epoll set, no allocation and
 * no JSON parser on the way of a delivery, only a search for the three things it checks.
 *
 *   network.c    sockets; bytes in and out, whatever way the kernel cuts them
 *   chat.c       a chat client: WebSocket frames, Socket.IO packets, what must be true of them
 *   pages.c      an HTTP client that reads the same page again and again
 *   webhooks.c   an HTTP server that takes what the relay posts
 *   main.c       the plan and the phases of a run, commanded over stdin
 */
#ifndef LOAD_H
#define LOAD_H
#include <stdbool.h>
#include <stddef.h>

typedef struct Connection Connection;

typedef struct {
  void (*opened)(Connection *);                             /* TCP is up */
  size_t (*received)(Connection *, char *bytes, size_t n);  /* answers how many it has used */
} Protocol;

typedef struct {
  int conversation;
  long seen; /* seq of the newest message that this connection was told of */
} Membership;

struct Connection {
  enum { NEW, CONNECTING, OPEN, READY, CLOSED, LISTENING } stage;
  int fd, port;
  bool upgraded;
  int under_way; /* of its messages, not acknowledged yet */
  long acked;    /* of its messages, in this phase */
  bool guest; /* it came to us, and may go as it likes */
  const Protocol *protocol;
  const char *token, *path;
  double asked;            /* when it was opened, or when the page was asked for */
  char *rest;              /* the beginning of a frame whose end is still to come */
  size_t n_rest;
  Membership *memberships;
  int n_memberships, page_size;
};

typedef struct {
  char *id;
  int n_members, *members; /* indexes of connections */
  long told;               /* seq of the newest message that a webhook told of */
} Conversation;

/* What has been seen since the last phase's answer. Times are in seconds. */
typedef struct {
  long started, done, ready, closed, bad;
  long expected, delivered; /* to one client each */
  long complete;            /* messages that were acknowledged and that every member has */
  long pings, bytes;
  double *latencies;
  long n_latencies, room;
  char complaint[160]; /* the first thing that was wrong */
} Tally;

extern Tally tally;
extern Connection *connections;
extern int n_connections;
extern Conversation *conversations;
extern int n_conversations;
extern const Protocol chat, pages, webhooks;
extern bool spinning, offering;

double now(void);
void *grown(void *old, size_t bytes);
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void bad(const char *format, ...) __attribute__((format(printf, 1, 2)));
void done(double latency);
void heard(double latency, bool far);
bool starts(const char *text, size_t n, const char *with);
double percentile(double *latencies, long n, double p); /* in ms */

int network_start(void); /* answers the epoll descriptor, which can itself be polled */
void network_open(Connection *);
void network_listen(int port, const Protocol *); /* of those who come */
void network_send(Connection *, const char *bytes, size_t n);
void network_close(Connection *, const char *why);
void network_turn(double seconds); /* waits at most so long, then handles all that has come */
double network_read_at(void);      /* when what is being handled was read */

void chat_send(int conversation, int member, int content_size, double due);
void chat_type(int conversation, int member, bool active);
double chat_told(const char *event, size_t n); /* seconds since the ack; below 0: no message's event */
void pages_ask(Connection *);
extern double pages_until;
void webhooks_keep(const char *file);
void webhooks_wait(long events, double seconds);
#endif
