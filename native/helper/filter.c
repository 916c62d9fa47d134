/*
 * The system calls that a worker may not make (seccomp(2)). It has no rights and sees nothing of
 * the host; what is left to a program that was taken over is the kernel itself. So it loses what a
 * conversion never needs and where kernels were broken before. A list of what is allowed would be
 * shorter still, and would break with a release of Node or glibc.
 */
#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "note.h"

/* Numbers mean nothing without the architecture; both are little-endian. */
#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "no list of system calls for this architecture"
#endif

/* Of Linux 5.17, the newest that this list was made for; from 424 on all architectures agree. */
#define NEWEST_KNOWN 450

static const uint16_t denied[] = {
    /* Mounts, in whatever way: root is made already, and mount(2) is the way to a new one. */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree, SYS_move_mount, SYS_fsopen,
    SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_swapon, SYS_swapoff, SYS_quotactl,
    SYS_quotactl_fd, SYS_acct, SYS_fanotify_init, SYS_mknodat,
    /* A file by its handle, whatever directory it lies in. */
    SYS_open_by_handle_at, SYS_name_to_handle_at,
    /* Namespaces: a user namespace brings all capabilities back. */
    SYS_unshare, SYS_setns,
    /* Other processes. */
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise, SYS_pidfd_getfd,
    SYS_kcmp, SYS_migrate_pages, SYS_move_pages, SYS_mbind, SYS_set_mempolicy,
    SYS_set_mempolicy_home_node,
    /* Key rings are no part of any namespace but the user's. */
    SYS_keyctl, SYS_add_key, SYS_request_key,
    /* Large programs within the kernel, each the way of many exploits. */
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter,
    SYS_io_uring_register, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget, SYS_semop, SYS_semtimedop,
    SYS_semctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_mq_open,
    /* Pages that are moved or shared instead of copied: sendfile(2) and read(2) do without. */
    SYS_splice, SYS_vmsplice, SYS_tee, SYS_remap_file_pages,
    /* Sockets of all families: the ones that it was handed are read and written as files. */
    SYS_socket, SYS_socketpair, SYS_bind, SYS_connect, SYS_listen, SYS_accept, SYS_accept4,
    SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg,
    /* Takes any amount of disk at once, behind the end of a file where no limit looks. */
    SYS_fallocate,
    /* The machine. */
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load,
    SYS_reboot, SYS_syslog, SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,
    SYS_sethostname, SYS_setdomainname, SYS_vhangup, SYS_lookup_dcookie, SYS_nfsservctl,
#if defined(__x86_64__)
    SYS_mknod, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl,
    SYS_create_module, SYS_get_kernel_syms, SYS_query_module,
#endif
};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])
#define ARGUMENT(n) (uint32_t)(offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (at))
/* Skips that many instructions unless the comparison holds. */
#define UNLESS(how, value, skip) BPF_JUMP(BPF_JMP | (how) | BPF_K, (value), 0, (skip))
#define GIVE(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE GIVE(SECCOMP_RET_ERRNO | EPERM)
/* As a kernel that does not know the call: the C library has another way then. */
#define UNKNOWN GIVE(SECCOMP_RET_ERRNO | ENOSYS)

#define NEW_NAMESPACES                                                                            \
  (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |   \
   CLONE_NEWNET)

static const struct sock_filter head[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    /* 32-bit calls have other numbers, and no program of ours makes them. */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
    GIVE(SECCOMP_RET_KILL_PROCESS),
    LOAD(offsetof(struct seccomp_data, nr)),
#if defined(X32_BIT)
    UNLESS(BPF_JGE, X32_BIT, 1),
    REFUSE,
#endif
    /* Nobody has looked yet at what came later. */
    UNLESS(BPF_JGT, NEWEST_KNOWN, 1),
    UNKNOWN,
    /* Its flags are in memory, where no filter can look; those of clone(2) are not. */
    UNLESS(BPF_JEQ, SYS_clone3, 1),
    UNKNOWN,
};

/* Of these calls the kernel takes the lower halves of the looked-at arguments only. */
static const struct sock_filter tail[] = {
    UNLESS(BPF_JEQ, SYS_clone, 4),
    LOAD(ARGUMENT(0)),
    UNLESS(BPF_JSET, NEW_NAMESPACES, 1),
    REFUSE,
    GIVE(SECCOMP_RET_ALLOW),
    /* Types into a terminal that it may have been given; TIOCLINUX pastes. */
    UNLESS(BPF_JEQ, SYS_ioctl, 6),
    LOAD(ARGUMENT(1)),
    UNLESS(BPF_JEQ, TIOCSTI, 1),
    REFUSE,
    UNLESS(BPF_JEQ, TIOCLINUX, 1),
    REFUSE,
    GIVE(SECCOMP_RET_ALLOW),
    /* Turns protections of memory off. */
    UNLESS(BPF_JEQ, SYS_personality, 4),
    LOAD(ARGUMENT(0)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
    REFUSE,
    GIVE(SECCOMP_RET_ALLOW),
    GIVE(SECCOMP_RET_ALLOW),
};

void filter_system_calls(void) {
  struct sock_filter code[COUNT(head) + 2 * COUNT(denied) + COUNT(tail)];
  unsigned short length = 0;
  for (size_t i = 0; i < COUNT(head); i++) code[length++] = head[i];
  for (size_t i = 0; i < COUNT(denied); i++) {
    code[length++] = (struct sock_filter)UNLESS(BPF_JEQ, denied[i], 1);
    code[length++] = (struct sock_filter)REFUSE;
  }
  for (size_t i = 0; i < COUNT(tail); i++) code[length++] = tail[i];
  const struct sock_fprog program = {.len = length, .filter = code};
  /*
   * Kernels before 5.16 slow a filtered process down against reads past a store (Spectre 4) unless
   * asked not to; all that a worker could read so is its own build.
   */
  const unsigned flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) != 0) fail_step("seccomp", 0);
}
