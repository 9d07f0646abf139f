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

void storm_next(const char *kind) {
  storm = (Storm){.due = true};
  strcpy(storm.kind, kind);
}

void storm_begin(void) {
  Conversation *of = &conversations[0];
  storm.due = false;
  storm.began = now();
  storm.asked = of->n_members;
  if (!strcmp(storm.kind, "connect")) {
    for (int i = 0; i < of->n_members; i++) network_reopen(&connections[of->members[i]]);
    return;
  }
  for (size_t e = 0; e < sizeof EVENTS / sizeof *EVENTS; e++) {
    if (strcmp(storm.kind, EVENTS[e].kind)) continue;
    char text[512];
    snprintf(text, sizeof text, EVENTS[e].event, of->id, of->newest);
    for (int i = 0; i < of->n_members; i++) chat_ask(&connections[of->members[i]], text);
    return;
  }
  die("an unknown storm: %s", storm.kind);
}

void storm_answered(void) {
  storm.answered++;
  storm.seconds = now() - storm.began;
}
