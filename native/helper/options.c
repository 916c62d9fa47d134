/*
 * builderd-launch --report FD --parent PID --keep N --worker-id N --init-id N [--cgroup FD]
 *   --tmp BYTES --fsize BYTES --nofile N --nproc N --oom-score-adj N
 *   {--code|--data|--device} SOURCE TARGET ... --env NAME=VALUE ... -- PROGRAM ARGV0 ARG ...
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

/* Below are the accounts of the host: a worker must never be one of them. */
#define LOWEST_ID 65536
#define HIGHEST_ID 4294901759ull /* the last range ends before (uid_t)-1 */

static void refuse(const char *name, const char *fact) {
  fprintf(stderr, "builderd-launch: Cannot use %s: %s\n", name, fact);
  exit(125);
}

static uint64_t number(const char *name, const char *text, uint64_t low, uint64_t high) {
  char *end;
  if (text[0] < '0' || text[0] > '9') refuse(name, "not a number");
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0') refuse(name, "not a number");
  if (value < low || value > high) refuse(name, "out of range");
  return value;
}

/* Absolute, and without empty, "." or ".." parts: it is created below the new root. */
static const char *inner_path(const char *path) {
  if (path[0] != '/' || path[1] == '\0') refuse("a target", "not an absolute path");
  for (const char *part = path + 1;;) {
    size_t length = strcspn(part, "/");
    if (length == 0 || (length == 1 && part[0] == '.') ||
        (length == 2 && part[0] == '.' && part[1] == '.'))
      refuse("a target", "it has an empty or a dotted part");
    if (part[length] == '\0') return path + 1;
    part += length + 1;
  }
}

static void add_bind(launch_options *o, char **values, unsigned long flags) {
  if (o->bind_count == MAX_BINDS) refuse("the mounts", "too many");
  if (values[0][0] != '/') refuse("a source", "not an absolute path");
  o->binds[o->bind_count++] =
      (bind_mount){.source = values[0], .target = inner_path(values[1]), .flags = flags};
}

static void add_environment(launch_options *o, char *text) {
  int count = 0;
  while (o->environment[count] != NULL) count++;
  if (count == MAX_ENV) refuse("the environment", "too many variables");
  if (strchr(text, '=') == NULL) refuse("the environment", "want NAME=VALUE");
  o->environment[count] = text;
}

/* Returns how many values the option took, or 0 when it is unknown. */
static int take(launch_options *o, const char *name, char **v, int left) {
  if (left < 1) refuse(name, "its value is missing");
  if (!strcmp(name, "--report")) return o->report_fd = (int)number(name, v[0], 3, 4095), 1;
  if (!strcmp(name, "--cgroup")) return o->cgroup_fd = (int)number(name, v[0], 3, 4095), 1;
  if (!strcmp(name, "--keep")) return o->keep = (int)number(name, v[0], 3, 4096), 1;
  if (!strcmp(name, "--parent")) return o->parent = (pid_t)number(name, v[0], 1, 1 << 22), 1;
  if (!strcmp(name, "--worker-id"))
    return o->worker_id = (uid_t)number(name, v[0], LOWEST_ID, HIGHEST_ID), 1;
  if (!strcmp(name, "--init-id"))
    return o->init_id = (uid_t)number(name, v[0], LOWEST_ID, HIGHEST_ID), 1;
  if (!strcmp(name, "--tmp")) return o->tmp_bytes = number(name, v[0], 4096, 1ull << 32), 1;
  if (!strcmp(name, "--fsize")) return o->file_bytes = number(name, v[0], 1, 1ull << 60), 1;
  if (!strcmp(name, "--nofile")) return o->descriptors = number(name, v[0], 16, 65536), 1;
  if (!strcmp(name, "--nproc")) return o->processes = number(name, v[0], 1, 65536), 1;
  if (!strcmp(name, "--oom-score-adj"))
    return o->oom_score_adj = (int)number(name, v[0], 0, 1000), 1;
  if (!strcmp(name, "--env")) return add_environment(o, v[0]), 1;
  unsigned long flags = !strcmp(name, "--code")     ? MS_NODEV
                        : !strcmp(name, "--data")   ? MS_NODEV | MS_NOEXEC
                        : !strcmp(name, "--device") ? MS_NOEXEC
                                                    : 0;
  if (flags == 0) return 0;
  if (left < 2) refuse(name, "want a source and a target");
  add_bind(o, v, flags);
  return 2;
}

void parse_options(int argc, char **argv, launch_options *o) {
  *o = (launch_options){.report_fd = -1, .cgroup_fd = -1};
  int at = 1;
  while (at < argc && strcmp(argv[at], "--") != 0) {
    int taken = take(o, argv[at], argv + at + 1, argc - at - 1);
    if (taken == 0) refuse(argv[at], "no such option");
    at += taken + 1;
  }
  if (argc - at < 3 || argv[at + 1][0] != '/') refuse("the program", "want -- /PATH ARGV0 ...");
  o->program = argv + at + 1;
  if (o->report_fd < 0 || o->report_fd >= o->keep) refuse("--report", "not a kept descriptor");
  if (o->cgroup_fd >= o->keep) refuse("--cgroup", "not a kept descriptor");
  if (o->cgroup_fd == o->report_fd) refuse("--cgroup", "it is --report too");
  if (o->parent == 0) refuse("--parent", "it is missing");
  if (o->worker_id == 0 || o->init_id == 0 || o->worker_id == o->init_id)
    refuse("--worker-id and --init-id", "want two different ids");
  if (o->tmp_bytes == 0 || o->file_bytes == 0 || o->descriptors == 0 || o->processes == 0)
    refuse("the limits", "--tmp, --fsize, --nofile and --nproc are all needed");
}
