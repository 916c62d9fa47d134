/* What the launcher is asked to do; see options.c for the grammar. */
#ifndef BUILDERD_OPTIONS_H
#define BUILDERD_OPTIONS_H
#include <stdint.h>
#include <sys/types.h>

#define MAX_BINDS 128
#define MAX_ENV 32

typedef struct {
  const char *source; /* a path of the host; symlinks are followed */
  const char *target; /* where it appears inside, without the leading slash */
  unsigned long flags; /* MS_*, besides read-only and nosuid */
} bind_mount;

typedef struct {
  int report_fd; /* gets one JSON line at the start and one at the end */
  int cgroup_fd; /* -1, or a cgroup v2 directory to start in */
  int keep;      /* descriptors 0..keep-1 are handed on, but for the two above */
  pid_t parent;  /* must be our parent still */
  uid_t worker_id;
  uid_t init_id;
  uint64_t tmp_bytes;
  uint64_t file_bytes;  /* RLIMIT_FSIZE */
  uint64_t descriptors; /* RLIMIT_NOFILE */
  uint64_t processes;   /* RLIMIT_NPROC */
  int oom_score_adj;
  int bind_count;
  bind_mount binds[MAX_BINDS];
  char *environment[MAX_ENV + 1];
  char *const *program; /* path and arguments, NULL-terminated */
} launch_options;

/* Ends the process with status 125 and a sentence on stderr when an argument is wrong. */
void parse_options(int argc, char **argv, launch_options *o);

#endif
