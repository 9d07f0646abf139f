#define _GNU_SOURCE
#include "load.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The index of a message is the acknowledgement's id and, after an m, the clientMessageId. */
typedef struct {
  double due;
  int conversation, sender;
  long seq; /* from the ack or the first delivery; 0 before */
  double acked; /* time of the ack; 0 before */
  int left;     /* packets still expected: a delivery to each member, and the ack */
} Message;

enum { OF_STORM = 1000000000 }; /* the id of an acknowledgement that belongs to a storm */

bool offering; /* per-message deflate, as browsers do */

static Message *messages;
static long n_messages, room;

static void opened(Connection *c) {
  static const char
      upgrade[] = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: YmVuY2htYXJrLWEtY2hhdA==\r\n",
      deflate[] = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
  char request[sizeof upgrade + sizeof deflate + 1];
  int n = snprintf(request, sizeof request, "%s%s\r\n", upgrade, offering ? deflate : "");
  network_send(c, request, n);
}

/* A client must mask its frames. A mask of zeros is allowed, and leaves the bytes unchanged. */
static void send_frame(Connection *c, int opcode, const char *text, size_t n) {
  char frame[16 * 1024];
  size_t head = n < 126 ? 6 : 8;
  if (n > sizeof frame - 8) die("a frame of %zu bytes is too large", n);
  memset(frame, 0, 8);
  frame[0] = (char)(0x80 | opcode);
  frame[1] = (char)(0x80 | (n < 126 ? n : 126));
  if (n >= 126) frame[2] = (char)(n >> 8), frame[3] = (char)n;
  memcpy(frame + head, text, n);
  network_send(c, frame, head + n);
}

static long number_after(const char *text, size_t n, const char *label) {
  const char *digit = memmem(text, n, label, strlen(label)), *end = text + n;
  if (!digit) return -1;
  long number = -1;
  for (digit += strlen(label); digit < end && *digit >= '0' && *digit <= '9'; digit++)
    number = (number < 0 ? 0 : number * 10) + *digit - '0';
  return number;
}

static void agree_on_seq(Message *m, long seq) {
  if (m->seq && m->seq != seq) bad("one message has two seqs, %ld and %ld", m->seq, seq);
  m->seq = seq;
}

static void one_came(Message *m) {
  if (--m->left == 0) tally.complete++;
}

/* The connection is in its rooms, which must be the conversations of the plan. */
static void connected(Connection *c, const char *text, size_t n) {
  const char *at = memmem(text, n, "\"rooms\":[", 9), *end = text + n;
  int quotes = 0;
  for (; at && at < end && *at != ']'; at++) quotes += *at == '"';
  if ((quotes - 2) / 2 != c->n_memberships)
    bad("connected to %d rooms, not %d: %.80s", (quotes - 2) / 2, c->n_memberships, text);
  c->stage = READY;
  tally.ready++;
  if (storm.began) storm_answered();
  else done(now() - c->asked);
}

static void copy_id(Conversation *of, const char *text, size_t n) {
  const char *id = memmem(text, n, "\"id\":\"", 6), *end = text + n;
  size_t at = 0;
  for (id = id ? id + 6 : end; id < end && *id != '"' && at < sizeof of->newest - 1;) of->newest[at++] = *id++;
  of->newest[at] = 0;
}

/* Each member, and nobody else, receives seq 1, 2, 3 ... none missing, duplicated or out of order.
 * A message has one seq, so the seqs of the acks have no gaps either. */
static void delivered(Connection *c, const char *text, size_t n) {
  long number = number_after(text, n, "\"clientMessageId\":\"m"), seq = number_after(text, n, "\"seq\":");
  if (number < 0 || number >= n_messages || seq < 1) {
    bad("unknown message: %.100s", text);
    return;
  }
  Message *m = &messages[number];
  Membership *place = c->memberships, *end = place + c->n_memberships;
  while (place < end && place->conversation != m->conversation) place++;
  if (place == end) {
    bad("a non-member received message %ld", number);
    return;
  }
  if (seq != place->seen + 1) bad("a member received seq %ld after %ld", seq, place->seen);
  place->seen = seq;
  agree_on_seq(m, seq);
  copy_id(&conversations[m->conversation], text, n);
  tally.delivered++;
  heard(network_read_at() - m->due, c->port != connections[m->sender].port);
  one_came(m);
}

static void acknowledged(const char *text, size_t n) {
  long number = number_after(text, n < 24 ? n : 24, "43");
  if (number == OF_STORM) {
    if (!memmem(text, n, "\"ok\":true", 9)) bad("refused: %.120s", text);
    storm_answered();
    return;
  }
  if (number < 0 || number >= n_messages || messages[number].acked) {
    bad("an unexpected ack: %.100s", text);
    return;
  }
  Message *m = &messages[number];
  m->acked = now();
  done(m->acked - m->due);
  connections[m->sender].under_way--;
  connections[m->sender].acked++;
  long seq = number_after(text, n, "\"seq\":");
  if (seq < 1 || !memmem(text, n, "\"ok\":true", 9)) bad("refused: %.120s", text);
  else agree_on_seq(m, seq);
  one_came(m);
}

/* The receiver must be a member of the conversation. The tally counts the deliveries, but not those of a storm,
 * which are volatile. */
static void typed(Connection *c, const char *text, size_t n) {
  static const char label[] = "\"conversationId\":\"";
  const char *id = memmem(text, n, label, sizeof label - 1);
  for (int i = 0; id && i < c->n_memberships; i++) {
    const char *own = conversations[c->memberships[i].conversation].id;
    size_t length = strlen(own), at = id + sizeof label - 1 - text;
    if (n - at > length && !memcmp(text + at, own, length) && text[at + length] == '"') {
      tally.delivered += !storm.began;
      return;
    }
  }
  bad("a non-member received typing: %.100s", text);
}

static void packet(Connection *c, const char *text, size_t n) {
  if (starts(text, n, "2")) {
    tally.pings++;
    send_frame(c, 1, "3", 1);
  } else if (starts(text, n, "0")) {
    char hello[4096];
    send_frame(c, 1, hello, snprintf(hello, sizeof hello, "40{\"token\":\"%s\"}", c->token));
  } else if (starts(text, n, "42[\"message:new\",")) delivered(c, text, n);
  else if (starts(text, n, "43")) acknowledged(text, n);
  else if (starts(text, n, "42[\"user:typing\",")) typed(c, text, n);
  else if (starts(text, n, "42[\"connected\",")) connected(c, text, n);
  else if (starts(text, n, "42[\"error\",")) bad("error event: %.120s", text);
  else if (starts(text, n, "44") || starts(text, n, "41") || starts(text, n, "1"))
    network_close(c, text);
}

static size_t received(Connection *c, char *bytes, size_t n) {
  size_t used = 0;
  if (!c->upgraded) {
    char *end = memmem(bytes, n, "\r\n\r\n", 4);
    if (!end) return 0;
    if (!starts(bytes, n, "HTTP/1.1 101")) {
      network_close(c, "no upgrade to WebSocket");
      return n;
    }
    c->upgraded = true;
    used = end + 4 - bytes;
  }
  while (n - used >= 2 && c->stage != CLOSED) {
    uint8_t *frame = (uint8_t *)bytes + used;
    size_t head = 2, size = frame[1] & 127, lengths = size < 126 ? 0 : size == 126 ? 2 : 8;
    if (n - used < head + lengths) break;
    if (lengths) size = 0;
    for (size_t i = 0; i < lengths; i++) size = size << 8 | frame[head++];
    if (n - used < head + size) break;
    char *text = (char *)frame + head;
    char lent = text[size]; /* end the text for complaints, which print the packet */
    text[size] = 0;
    if (frame[0] == 0x81) packet(c, text, size);
    else if (frame[0] == 0x89) send_frame(c, 10, text, size);
    else if (frame[0] == 0x88) network_close(c, size > 2 ? text + 2 : "by the server, without a reason");
    else bad("a frame that no Socket.IO server sends: %02x", frame[0]);
    text[size] = lent;
    used += head + size;
  }
  return used;
}

/* Each event must arrive once, in the order of its conversation. It may arrive before the ack. */
double chat_told(const char *event, size_t n) {
  if (!memmem(event, n, "\"type\":\"message.created\"", 24)) return -1;
  long number = number_after(event, n, "\"clientMessageId\":\"m"), seq = number_after(event, n, "\"seq\":");
  if (number < 0 || number >= n_messages || seq < 1) {
    bad("an event of an unknown message: %.*s", n < 100 ? (int)n : 100, event);
    return -1;
  }
  Message *m = &messages[number];
  Conversation *of = &conversations[m->conversation];
  if (seq != of->told + 1) bad("an event has seq %ld after %ld", seq, of->told);
  of->told = seq;
  agree_on_seq(m, seq);
  return m->acked ? now() - m->acked : 0;
}

void chat_send(int conversation, int member, int content_size, double due) {
  static char filling[4096];
  if (!filling[0]) memset(filling, 'x', sizeof filling - 1);
  Conversation *to = &conversations[conversation];
  if (n_messages == room) messages = grown(messages, (room = room * 2 + 4096) * sizeof *messages);
  messages[n_messages] = (Message){.due = due, .conversation = conversation,
                                   .sender = to->members[member], .left = to->n_members + 1};
  char text[8192];
  int n = snprintf(text, sizeof text,
                   "42%ld[\"message:send\",{\"conversationId\":\"%s\","
                   "\"clientMessageId\":\"m%ld\",\"content\":\"%.*s\"}]",
                   n_messages, to->id, n_messages, content_size, filling);
  n_messages++;
  tally.started++;
  tally.expected += to->n_members;
  connections[to->members[member]].under_way++;
  send_frame(&connections[to->members[member]], 1, text, n);
}

void chat_ask(Connection *c, const char *event) {
  char text[1024];
  send_frame(c, 1, text, snprintf(text, sizeof text, "42%d%s", OF_STORM, event));
}

void chat_type(int conversation, int member, bool active) {
  Conversation *in = &conversations[conversation];
  char text[256];
  int n = snprintf(text, sizeof text, "42[\"typing:%s\",{\"conversationId\":\"%s\"}]",
                   active ? "start" : "stop", in->id);
  tally.expected += in->n_members - 1;
  send_frame(&connections[in->members[member]], 1, text, n);
}

const Protocol chat = {opened, received};
