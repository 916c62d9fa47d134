#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "new-root.h"
#include "note.h"
#include "privileges.h"
#include "worker.h"

/* The kernel prefers it to everything else of ours when memory is short. */
static void offer_to_oom_killer(int adjustment) {
  char text[16];
  int length = snprintf(text, sizeof text, "%d", adjustment);
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, (size_t)length) != length) fail_step("oom_score_adj", 0);
  close(fd);
}

/* A parent that died before PR_SET_PDEATHSIG sends no signal any more: look once, afterwards. */
static void check_launcher(int alive_fd) {
  struct pollfd watch = {.fd = alive_fd};
  if (poll(&watch, 1, 0) != 0) _exit(125);
}

static void tell_end(int status) {
  if (WIFSIGNALED(status))
    send_note(NOTE_SIGNALED, "", 0, WTERMSIG(status));
  else
    send_note(NOTE_EXITED, "", 0, WEXITSTATUS(status));
}

void run_init(const launch_options *o, int alive_fd) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) fail_step("pdeathsig", 0);
  check_launcher(alive_fd);
  offer_to_oom_killer(o->oom_score_adj);
  enter_new_root(o);
  if (sethostname("builderd", strlen("builderd")) != 0) fail_step("sethostname", 0);
  close(o->report_fd);
  if (o->cgroup_fd >= 0) close(o->cgroup_fd);

  pid_t worker = fork();
  if (worker < 0) fail_step("fork", 0);
  if (worker == 0) {
    close(alive_fd);
    become_worker(o);
  }
  /* From here on there is nothing to protect but the pipe: not one descriptor, not one right. */
  for (int fd = 0; fd < o->keep; fd++) close(fd);
  drop_privileges(o->init_id);
  check_launcher(alive_fd);
  for (;;) {
    int status;
    pid_t ended = waitpid(-1, &status, 0);
    if (ended < 0 && errno == EINTR) continue;
    if (ended < 0) fail_step("waitpid", 0);
    if (ended != worker) continue;
    tell_end(status);
    /* Takes every other process inside along (pid_namespaces(7)). */
    _exit(0);
  }
}
