#include "note.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int note_fd = -1;

void send_note(int kind, const char *step, int err, int value) {
  launch_note note = {.kind = kind, .err = err, .value = value};
  strncpy(note.step, step, sizeof note.step - 1);
  ssize_t n;
  do n = write(note_fd, &note, sizeof note);
  while (n < 0 && errno == EINTR);
  /* A launcher that is gone takes everything with it: there is nobody left to tell. */
}

void fail_step(const char *step, int value) {
  send_note(NOTE_FAILED, step, errno, value);
  _exit(125);
}
