/* The kernel's share of the cost: a frame is built once, and send() is called for every member.
 * There is one room, and only as much of the protocols as the load generator uses. usage: WS_PORT=n */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 1 << 16, EVENTS = 512, FRAME = 16 * 1024 };

static int members[CLIENTS], n_members;
static bool upgraded[CLIENTS];
static long seqs;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* The load reads all the time, so if a socket's buffer is full, the measurement is wrong. */
static void write_all(int fd, const char *bytes, size_t n) {
  if (send(fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n) fail("send");
}

static size_t frame_of(char *frame, const char *text, size_t n) {
  size_t head = n < 126 ? 2 : 4;
  frame[0] = (char)0x81;
  frame[1] = (char)(n < 126 ? n : 126);
  if (n >= 126) frame[2] = (char)(n >> 8), frame[3] = (char)n;
  memcpy(frame + head, text, n);
  return head + n;
}

static void say(int fd, const char *text) {
  char frame[FRAME];
  write_all(fd, frame, frame_of(frame, text, strlen(text)));
}

static size_t between(const char *text, const char *label, const char **from) {
  *from = strstr(text, label);
  if (!*from) return 0;
  *from += strlen(label);
  return strcspn(*from, "\"");
}

static void message(int sender, char *text) {
  char body[FRAME - 64], packet[FRAME - 8], frame[FRAME], at[32];
  const char *content, *id;
  size_t n_content = between(text, "\"content\":\"", &content);
  size_t n_id = between(text, "\"clientMessageId\":\"", &id);
  if (!n_content || !n_id) return;
  long seq = ++seqs;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  struct tm utc;
  strftime(at, sizeof at, "%FT%T", gmtime_r(&now.tv_sec, &utc));
  snprintf(at + 19, sizeof at - 19, ".%03dZ", (int)(now.tv_nsec / 1000000));
  snprintf(body, sizeof body,
           "{\"id\":\"%024lx\",\"conversationId\":\"r\",\"seq\":%ld,\"rev\":%ld,"
           "\"senderId\":\"%020d\",\"content\":\"%.*s\",\"attachments\":[],\"replyTo\":null,"
           "\"mentions\":[],\"metadata\":{},\"clientMessageId\":\"%.*s\",\"reactions\":[],"
           "\"isEdited\":false,\"isDeleted\":false,\"createdAt\":\"%s\",\"updatedAt\":\"%s\","
           "\"deletedAt\":null}",
           seq, seq, seq, sender, (int)n_content, content, (int)n_id, id, at, at);
  size_t n = frame_of(frame, packet, snprintf(packet, sizeof packet, "42[\"message:new\",%s]", body));
  for (int i = 0; i < n_members; i++) write_all(members[i], frame, n);
  snprintf(packet, sizeof packet, "43%ld[{\"ok\":true,\"data\":%s}]", atol(text + 2), body);
  say(sender, packet);
}

static void packet(int fd, char *text) {
  if (text[0] != '4') return;
  if (text[1] == '0') {
    say(fd, "40{\"sid\":\"x\"}");
    say(fd, "42[\"connected\",{\"rooms\":[\"r\"],\"timestamp\":\"\"}]");
    members[n_members++] = fd;
  } else if (text[1] == '2') message(fd, text);
}

static void gone(int fd) {
  close(fd);
  for (int i = 0; i < n_members; i++)
    if (members[i] == fd) members[i] = members[--n_members];
}

/* The load is on this machine and sends each frame in one call, masked with zeros, so frames arrive whole. */
static void readable(int fd) {
  static char bytes[64 * 1024 + 1];
  ssize_t n = recv(fd, bytes, sizeof bytes - 1, 0), used = 0;
  if (n <= 0) {
    gone(fd);
    return;
  }
  if (!upgraded[fd]) {
    static const char yes[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: not-looked-at\r\n\r\n";
    upgraded[fd] = true;
    write_all(fd, yes, sizeof yes - 1);
    say(fd, "0{\"sid\":\"x\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000}");
    return;
  }
  while (n - used >= 6) {
    uint8_t *head = (uint8_t *)bytes + used;
    ssize_t size = head[1] & 127, start = 6;
    if (size == 126) size = head[2] << 8 | head[3], start = 8;
    if (n - used < start + size) break;
    char *text = bytes + used + start, next = text[size];
    text[size] = 0;
    packet(fd, text);
    text[size] = next;
    used += start + size;
  }
}

int main(void) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  int on = 1, poller = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("WS_PORT"))),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
  struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(poller, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd != listener) {
        readable(fd);
        continue;
      }
      if ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0) continue;
      if (fd >= CLIENTS) fail("too many clients");
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      upgraded[fd] = false;
      event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
      epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
  }
}
