/*
 * The file system inside: an empty tmpfs, read-only in the end, with bind mounts below it. The old
 * root is detached; nothing of the host can be reached by a name any more.
 */
#include "new-root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "note.h"

/* sys/mount.h, which declares these, clashes with linux/mount.h in glibc 2.36. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define DETACH 2 /* MNT_DETACH */

/* Any directory that is always there: it is covered only in our own mount namespace. */
static const char stage[] = "/proc";
/* What the worker has for its root. */
static const char inner[] = "root";

/* Creates the parents of a relative path, and the path itself as a directory or an empty file. */
static void make_target(const char *target, int is_dir, int index) {
  char path[4096];
  size_t length = strlen(target);
  if (length >= sizeof path) {
    errno = ENAMETOOLONG;
    fail_step("mount point", index);
  }
  memcpy(path, target, length + 1);
  for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(path, 0755) != 0 && errno != EEXIST) fail_step("mount point", index);
    *slash = '/';
  }
  if (is_dir) {
    if (mkdir(path, 0755) != 0 && errno != EEXIST) fail_step("mount point", index);
    return;
  }
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
  if (fd < 0) fail_step("mount point", index);
  close(fd);
}

static void attach(int tree, const bind_mount *bind, int index) {
  struct stat stat;
  if (fstat(tree, &stat) != 0) fail_step("bind", index);
  make_target(bind->target, S_ISDIR(stat.st_mode), index);
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, bind->target, MOVE_MOUNT_F_EMPTY_PATH) != 0)
    fail_step("move_mount", index);
  close(tree);
  unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | bind->flags;
  if (mount(NULL, bind->target, NULL, flags, NULL) != 0) fail_step("read-only", index);
}

static void mount_proc(void) {
  const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
  if (mkdir("proc", 0555) != 0) fail_step("proc", 0);
  /* subset=pid came with Linux 5.8. */
  if (mount("proc", "proc", "proc", flags, "hidepid=2,subset=pid") == 0) return;
  if (errno != EINVAL) fail_step("proc", 0);
  if (mount("proc", "proc", "proc", flags, "hidepid=2") != 0) fail_step("proc", 0);
}

static void mount_tmp(uint64_t bytes) {
  char options[64];
  snprintf(options, sizeof options, "size=%llu,nr_inodes=256,mode=1777", (unsigned long long)bytes);
  if (mkdir("tmp", 0755) != 0) fail_step("tmp", 0);
  if (mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) != 0)
    fail_step("tmp", 0);
}

void enter_new_root(const launch_options *o) {
  int trees[MAX_BINDS];
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail_step("private mounts", 0);
  /* Sources are taken before anything covers them. Not recursive: no mount below comes along. */
  for (int i = 0; i < o->bind_count; i++) {
    trees[i] = (int)syscall(SYS_open_tree, AT_FDCWD, o->binds[i].source,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (trees[i] < 0) fail_step("open_tree", i);
  }
  if (mount("tmpfs", stage, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=1024,mode=755") != 0)
    fail_step("tmpfs", 0);
  if (chdir(stage) != 0) fail_step("chdir", 0);
  if (mkdir(inner, 0755) != 0 || chdir(inner) != 0) fail_step("inner root", 0);
  /* Before the binds: one of them may lie below /tmp. */
  mount_proc();
  mount_tmp(o->tmp_bytes);
  for (int i = 0; i < o->bind_count; i++) attach(trees[i], &o->binds[i], i);
  if (chdir("..") != 0) fail_step("chdir", 0);
  /* pivot_root(2), "pivot_root(".", ".")": the old root lies on top of the new one until detached. */
  if (syscall(SYS_pivot_root, ".", ".") != 0) fail_step("pivot_root", 0);
  if (umount2(".", DETACH) != 0) fail_step("detach old root", 0);
  if (chdir("/") != 0) fail_step("chdir", 0);
  const unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount(NULL, "/", NULL, flags, NULL) != 0) fail_step("read-only root", 0);
  /*
   * One directory down, not to hide anything (above there is nothing), but because the kernel gives
   * no user namespace, the way to capabilities for everyone, to a process whose root is not the
   * root of its mount namespace (user_namespaces(7), clone(2): EPERM).
   */
  if (chdir(inner) != 0 || chroot(".") != 0) fail_step("chroot", 0);
}
