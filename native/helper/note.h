/* What the processes inside tell the launcher, over a pipe that the worker does not have. */
#ifndef BUILDERD_NOTE_H
#define BUILDERD_NOTE_H
#include <stdint.h>

enum note_kind { NOTE_FAILED = 1, NOTE_EXITED = 2, NOTE_SIGNALED = 3 };

/* Smaller than PIPE_BUF: written and read whole. */
typedef struct {
  int32_t kind;
  int32_t err;    /* errno of a failed step */
  int32_t value;  /* exit status, signal, or which of several mounts */
  char step[32];
} launch_note;

/* Set once, by the launcher before it clones. */
extern int note_fd;

void send_note(int kind, const char *step, int err, int value);

/* Tells which step failed, with errno, and ends this process. */
__attribute__((noreturn)) void fail_step(const char *step, int value);

#endif
