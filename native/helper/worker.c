#include "worker.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"
#include "note.h"
#include "privileges.h"

/* The session keyring of the executor must not be inherited. */
static void leave_keyring(void) {
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) >= 0) return;
  /* A kernel or a container that denies keyctl denies it to the worker too. */
  if (errno != ENOSYS && errno != EPERM && errno != EACCES) fail_step("keyring", 0);
}

void become_worker(const launch_options *o) {
  if (setsid() < 0) fail_step("setsid", 0);
  umask(077);
  limit_resource(RLIMIT_CORE, 0, "rlimit core");
  limit_resource(RLIMIT_FSIZE, o->file_bytes, "rlimit fsize");
  limit_resource(RLIMIT_NOFILE, o->descriptors, "rlimit nofile");
  limit_resource(RLIMIT_NPROC, o->processes, "rlimit nproc");
  limit_resource(RLIMIT_MEMLOCK, 64 * 1024, "rlimit memlock");
  limit_resource(RLIMIT_MSGQUEUE, 0, "rlimit msgqueue");
  /* As root: the id of the slot may have its quota of keys filled by an earlier worker. */
  leave_keyring();
  drop_privileges(o->worker_id);
  filter_system_calls();
  execve(o->program[0], o->program + 1, o->environment);
  fail_step("execve", 0);
}
