/*
 * The launcher proper: clones into the new namespaces, then waits. SIGTERM (or SIGINT, SIGHUP)
 * kills everything inside at once; SIGKILL of the launcher itself does the same, through
 * PR_SET_PDEATHSIG of the first process inside.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"
#include "note.h"
#include "options.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
#define MAX_DESCRIPTORS 65536

static void say(int fd, const char *line, int length) {
  for (int done = 0; done < length;) {
    ssize_t n = write(fd, line + done, (size_t)(length - done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return; /* the executor is gone, and we with it */
    done += (int)n;
  }
}

static void report_failure(int fd, const launch_note *note) {
  char line[160];
  int length = snprintf(line, sizeof line,
                        "{\"launch\":\"failed\",\"step\":\"%s\",\"value\":%d,\"errno\":%d}\n", note->step,
                        note->value, note->err);
  say(fd, line, length);
}

/* For what fails in the launcher itself. */
__attribute__((noreturn)) static void fail_here(int report_fd, const char *step) {
  launch_note note = {.kind = NOTE_FAILED, .err = errno};
  strncpy(note.step, step, sizeof note.step - 1);
  report_failure(report_fd, &note);
  exit(125);
}

/* close_range(2) came with Linux 5.9. */
static void close_from(int first) {
  if (syscall(SYS_close_range, first, ~0u, 0) == 0) return;
  struct rlimit limit;
  rlim_t end = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : MAX_DESCRIPTORS;
  for (int fd = first; fd < (int)(end < MAX_DESCRIPTORS ? end : MAX_DESCRIPTORS); fd++) close(fd);
}

static pid_t clone_inside(const launch_options *o) {
  struct clone_args args = {.flags = NAMESPACES, .exit_signal = SIGCHLD};
  if (o->cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)o->cgroup_fd;
  }
  pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  if (pid >= 0 || errno != ENOSYS || o->cgroup_fd >= 0) return pid;
  /* Container runtimes answer ENOSYS where clone(2) is allowed. */
  return (pid_t)syscall(SYS_clone, NAMESPACES | SIGCHLD, NULL, NULL, NULL, NULL);
}

static unsigned long long namespace_id(pid_t pid, const char *name) {
  char path[64];
  struct stat stat_buffer;
  snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
  return stat(path, &stat_buffer) == 0 ? (unsigned long long)stat_buffer.st_ino : 0;
}

static void report_start(int fd, pid_t pid) {
  char line[160];
  int length =
      snprintf(line, sizeof line, "{\"launch\":\"started\",\"pid\":%d,\"net\":%llu,\"mnt\":%llu}\n",
               (int)pid, namespace_id(pid, "net"), namespace_id(pid, "mnt"));
  say(fd, line, length);
}

/* Collects the last note until everything inside has let go of the pipe. */
static int watch(int notes, int signals, pid_t pid, launch_note *last) {
  int stopped = 0;
  for (;;) {
    struct pollfd fds[2] = {{.fd = notes, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return stopped;
    struct signalfd_siginfo info;
    if (fds[1].revents != 0 && read(signals, &info, sizeof info) == sizeof info) {
      stopped = 1;
      kill(pid, SIGKILL);
    }
    if (fds[0].revents == 0) continue;
    launch_note note;
    ssize_t n = read(notes, &note, sizeof note);
    if (n < 0 && errno == EINTR) continue;
    if (n != sizeof note) return stopped;
    note.step[sizeof note.step - 1] = '\0';
    /* The first failure is the cause of what follows. */
    if (last->kind != NOTE_FAILED) *last = note;
  }
}

static void report_end(int fd, const launch_note *note, int stopped, int status,
                       const struct rusage *use) {
  char line[240];
  const char *how = note->kind == NOTE_EXITED ? "exit" : note->kind == NOTE_SIGNALED ? "signal" : "init";
  int value = note->kind != 0 ? note->value : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  unsigned long long cpu_us =
      (unsigned long long)(use->ru_utime.tv_sec + use->ru_stime.tv_sec) * 1000000 +
      (unsigned long long)(use->ru_utime.tv_usec + use->ru_stime.tv_usec);
  int length = snprintf(line, sizeof line,
                        "{\"launch\":\"ended\",\"how\":\"%s\",\"value\":%d,\"stopped\":%s,"
                        "\"cpuUs\":%llu,\"peakKib\":%ld}\n",
                        how, value, stopped ? "true" : "false", cpu_us, use->ru_maxrss);
  say(fd, line, length);
}

static int block_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  if (sigprocmask(SIG_SETMASK, &set, NULL) != 0) return -1;
  return signalfd(-1, &set, SFD_CLOEXEC);
}

/* What the process inside must not inherit from us. */
__attribute__((noreturn)) static void start_inside(const launch_options *o, int signals,
                                                   const int *notes, const int *alive) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  close(signals);
  close(notes[0]);
  close(alive[1]);
  run_init(o, alive[0]);
}

int main(int argc, char **argv) {
  static launch_options o;
  int notes[2], alive[2], status = 0;
  struct rusage use = {0};
  launch_note last = {0};
  parse_options(argc, argv, &o);
  close_from(o.keep);
  signal(SIGPIPE, SIG_IGN);
  setsid();
  prctl(PR_SET_NAME, "builderd", 0, 0, 0);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) fail_here(o.report_fd, "pdeathsig");
  if (getppid() != o.parent) return 125; /* the executor died in between */
  int signals = block_signals();
  if (signals < 0 || pipe2(notes, O_CLOEXEC) != 0 || pipe2(alive, O_CLOEXEC) != 0)
    fail_here(o.report_fd, "pipe");
  note_fd = notes[1];
  pid_t pid = clone_inside(&o);
  if (pid == 0) start_inside(&o, signals, notes, alive);
  if (pid < 0) fail_here(o.report_fd, o.cgroup_fd >= 0 ? "clone into cgroup" : "clone");
  close(notes[1]);
  close(alive[0]);
  /* The worker's channel must end with the worker, so nobody else may hold it. */
  for (int fd = 0; fd < o.keep; fd++)
    if (fd != o.report_fd) close(fd);
  report_start(o.report_fd, pid);
  int stopped = watch(notes[0], signals, pid, &last);
  while (wait4(pid, &status, 0, &use) < 0 && errno == EINTR) continue;
  if (last.kind == NOTE_FAILED && !stopped) {
    report_failure(o.report_fd, &last);
    return 125;
  }
  report_end(o.report_fd, &last, stopped, status, &use);
  return 0;
}
