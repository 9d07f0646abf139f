/* The load generator: many Socket.IO clients and keep-alive HTTP readers in one thread.
 *
 * It shares its CPU with mongod, so it must be cheap: one epoll set, and for a delivery no allocation
 * and no JSON parser, only a search for the three values that it checks.
 *
 *   network.c    sockets; bytes in and out, however the kernel splits them
 *   chat.c       a chat client: WebSocket frames and Socket.IO packets, and the checks of them
 *   pages.c      an HTTP client that reads the same page again and again
 *   webhooks.c   an HTTP server that receives the relay's posts
 *   storms.c     what all members of a conversation do at once
 *   main.c       the plan and the phases of a run, commanded over stdin
 */
#ifndef LOAD_H
#define LOAD_H
#include <stdbool.h>
#include <stddef.h>

typedef struct Connection Connection;

typedef struct {
  void (*opened)(Connection *);                             /* TCP is up */
  size_t (*received)(Connection *, char *bytes, size_t n);  /* returns the number of bytes used */
} Protocol;

typedef struct {
  int conversation;
  long seen; /* seq of the newest message that this connection has received */
} Membership;

struct Connection {
  enum { NEW, CONNECTING, OPEN, READY, CLOSED, LISTENING } stage;
  int fd, port;
  bool upgraded;
  int under_way; /* its messages that are not acknowledged yet */
  long acked;    /* its messages acknowledged in this phase */
  bool guest; /* an incoming connection, which may close at any time */
  const Protocol *protocol;
  const char *token, *path;
  double asked;            /* when it was opened, or the page was requested */
  char *rest;              /* the start of an incomplete frame */
  size_t n_rest;
  Membership *memberships;
  int n_memberships, page_size;
};

typedef struct {
  char *id;
  int n_members, *members; /* indexes of connections */
  long told;               /* seq of the newest message in a webhook */
  char newest[64];         /* the id of its newest message */
} Conversation;

/* Counts since the answer to the last phase. Times are in seconds. */
typedef struct {
  long started, done, ready, closed, bad;
  long expected, delivered; /* deliveries, each to one client */
  long complete;            /* messages that are acknowledged and delivered to every member */
  long pings, bytes;
  double *latencies;
  long n_latencies, room;
  char complaint[160]; /* the first error */
} Tally;

/* What all members of the first conversation do at once, in the middle of other work. Times are in seconds. */
typedef struct {
  char kind[16];
  char text[512]; /* what each member sends; empty: each member connects again */
  bool due; /* the next open loop starts it */
  double within; /* the time over which the members are spread */
  double began, seconds; /* seconds: until the last answer */
  long asked, begun, answered;
} Storm;

extern Storm storm;
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

int network_start(void); /* returns the epoll descriptor, which can itself be polled */
void network_open(Connection *);
void network_reopen(Connection *);
void network_listen(int port, const Protocol *); /* for incoming connections */
void network_send(Connection *, const char *bytes, size_t n);
void network_close(Connection *, const char *why);
void network_turn(double seconds); /* waits at most this long, then handles all input */
double network_read_at(void);      /* when the input being handled was read */

void chat_send(int conversation, int member, int content_size, double due);
void chat_type(int conversation, int member, bool active);
void chat_ask(Connection *, const char *event); /* the answer is one of the storm */
void storm_next(const char *kind, double within);
void storm_begin(void);
void storm_go_on(void);
void storm_answered(void);
double chat_told(const char *event, size_t n); /* seconds since the ack; negative: not an event of a message */
void pages_ask(Connection *);
extern double pages_until;
void webhooks_keep(const char *file);
void webhooks_wait(long events, double seconds);
#endif
