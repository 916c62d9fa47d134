#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "note.h"

static void clear_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2] = {{0}}, found[2];
  if (syscall(SYS_capset, &header, none) != 0) fail_step("capset", 0);
  if (syscall(SYS_capget, &header, found) != 0) fail_step("capget", 0);
  for (int i = 0; i < 2; i++) {
    if ((found[i].effective | found[i].permitted | found[i].inheritable) == 0) continue;
    errno = EPERM;
    fail_step("capabilities stay", 0);
  }
}

void drop_privileges(uid_t id) {
  /* Needs CAP_SETPCAP, so it comes first. PR_CAPBSET_READ fails past the last capability. */
  for (int cap = 0;; cap++) {
    int held = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
    if (held < 0) break;
    if (held == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) fail_step("bounding set", cap);
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail_step("ambient set", 0);
  const unsigned long locked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
                               SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                               SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  if (prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) != 0) fail_step("securebits", 0);
  if (setgroups(0, NULL) != 0) fail_step("setgroups", 0);
  if (setresgid(id, id, id) != 0) fail_step("setresgid", 0);
  if (setresuid(id, id, id) != 0) fail_step("setresuid", 0);
  uid_t real, effective, saved;
  if (getresuid(&real, &effective, &saved) != 0 || real != id || effective != id || saved != id)
    fail_step("getresuid", 0);
  clear_capabilities();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail_step("no_new_privs", 0);
  /* Only now: a change of ids clears it (prctl(2)). */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) fail_step("pdeathsig", 0);
}

void limit_resource(int resource, unsigned long long value, const char *step) {
  struct rlimit limit;
  if (getrlimit((__rlimit_resource_t)resource, &limit) != 0) fail_step(step, 0);
  if (limit.rlim_max > value) limit.rlim_max = (rlim_t)value;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit((__rlimit_resource_t)resource, &limit) != 0) fail_step(step, 0);
}
