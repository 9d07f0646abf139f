#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { AT_ONCE = 128 * 1024, EVENTS = 512 };

bool spinning; /* The load never sleeps, so no server pays for waking a client. */

static int poller;
static double read_at;

int network_start(void) { return poller = epoll_create1(EPOLL_CLOEXEC); }

static void watch(Connection *c, int how, unsigned what) {
  struct epoll_event event = {.events = what, .data.ptr = c};
  if (epoll_ctl(poller, how, c->fd, &event)) die("epoll_ctl: %s", strerror(errno));
}

static struct sockaddr_in address(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

void network_open(Connection *c) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket: %s", strerror(errno));
  int on = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct sockaddr_in to = address(c->port);
  c->stage = CONNECTING;
  c->asked = now();
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
    die("connect: %s", strerror(errno));
  watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

/* Drops the connection without a goodbye, and opens another one. Not for use while input is handled. */
void network_reopen(Connection *c) {
  close(c->fd);
  c->upgraded = false;
  c->n_rest = 0;
  network_open(c);
}

void network_close(Connection *c, const char *why) {
  if (c->stage == CLOSED) return;
  c->stage = CLOSED;
  close(c->fd);
  if (c->guest) return;
  tally.closed++;
  bad("a connection was closed: %s", why);
}

/* Little is in flight at a time, so if a socket's buffer is full, the server is stuck. */
void network_send(Connection *c, const char *bytes, size_t n) {
  if (c->stage == CLOSED || send(c->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n) return;
  network_close(c, "the server does not read, or has disconnected");
}

void network_listen(int port, const Protocol *protocol) {
  Connection *c = grown(NULL, sizeof *c);
  *c = (Connection){.stage = LISTENING, .port = port, .protocol = protocol};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in at = address(port);
  if (bind(c->fd, (struct sockaddr *)&at, sizeof at) || listen(c->fd, SOMAXCONN))
    die("port %d: %s", port, strerror(errno));
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

/* The memory of a guest is never freed: there are a few hundred in a run. */
static void welcome(const Connection *host) {
  int fd, on = 1;
  while ((fd = accept4(host->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Connection *c = grown(NULL, sizeof *c);
    *c = (Connection){.stage = READY, .fd = fd, .guest = true, .protocol = host->protocol};
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static void connected(Connection *c) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error) {
    network_close(c, strerror(error));
    return;
  }
  c->stage = OPEN;
  watch(c, EPOLL_CTL_MOD, EPOLLIN);
  c->protocol->opened(c);
}

/* All connections read into one buffer. A connection keeps only the start of an incomplete frame.
 * The buffer has one extra byte, so that the input can be terminated with a 0. */
static void readable(Connection *c) {
  static char *buffer;
  static size_t room;
  if (room < c->n_rest + AT_ONCE) buffer = grown(buffer, (room = c->n_rest + AT_ONCE) + 1);
  if (c->n_rest) memcpy(buffer, c->rest, c->n_rest);
  ssize_t got = recv(c->fd, buffer + c->n_rest, AT_ONCE, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    network_close(c, got ? strerror(errno) : "the server closed the connection");
    return;
  }
  read_at = now();
  size_t n = c->n_rest + got, used = c->protocol->received(c, buffer, n);
  if (c->stage == CLOSED) return;
  c->n_rest = n - used;
  if (c->n_rest) {
    c->rest = grown(c->rest, c->n_rest);
    memcpy(c->rest, buffer + used, c->n_rest);
  }
}

double network_read_at(void) { return read_at; }

void network_turn(double seconds) {
  struct epoll_event events[EVENTS];
  if (seconds < 0 || spinning) seconds = 0;
  struct timespec limit = {.tv_sec = seconds, .tv_nsec = (seconds - (long)seconds) * 1e9};
  int n = epoll_pwait2(poller, events, EVENTS, &limit, NULL);
  if (n < 0 && errno != EINTR) die("epoll_pwait2: %s", strerror(errno));
  for (int i = 0; i < n; i++) {
    Connection *c = events[i].data.ptr;
    if (c->stage == CONNECTING) connected(c);
    else if (c->stage == LISTENING) welcome(c);
    else if (c->stage != CLOSED) readable(c);
  }
}
