#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <string.h>

Storm storm;

static const struct {
  const char *kind, *event;
} EVENTS[] = {
    {"read", "[\"message:read\",{\"messageId\":\"%2$s\"}]"},
    {"read-all", "[\"conversation:read\",{\"conversationId\":\"%1$s\"}]"},
    {"leave", "[\"room:leave\",{\"conversationId\":\"%1$s\"}]"},
    {"join", "[\"room:join\",{\"conversationId\":\"%1$s\"}]"},
    {"typing", "[\"typing:start\",{\"conversationId\":\"%1$s\"}]"},
};

void storm_next(const char *kind, double within) {
  storm = (Storm){.due = true, .within = within};
  strcpy(storm.kind, kind);
}

static const char *event_of(const char *kind) {
  for (size_t e = 0; e < sizeof EVENTS / sizeof *EVENTS; e++)
    if (!strcmp(kind, EVENTS[e].kind)) return EVENTS[e].event;
  die("an unknown storm: %s", kind);
  return NULL;
}

void storm_begin(void) {
  Conversation *of = &conversations[0];
  storm.due = false;
  storm.began = now();
  storm.asked = of->n_members;
  if (strcmp(storm.kind, "connect"))
    snprintf(storm.text, sizeof storm.text, event_of(storm.kind), of->id, of->newest);
}

void storm_go_on(void) {
  Conversation *of = &conversations[0];
  for (; storm.begun < storm.asked; storm.begun++) {
    if (now() < storm.began + storm.within * storm.begun / storm.asked) return;
    Connection *member = &connections[of->members[storm.begun]];
    if (*storm.text) chat_ask(member, storm.text);
    else network_reopen(member);
  }
}

void storm_answered(void) {
  storm.answered++;
  storm.seconds = now() - storm.began;
}
