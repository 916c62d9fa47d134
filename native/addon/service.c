/* What a service of ours asks of the system and Node has no call for. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "async.h"
#include "modules.h"

static napi_value throw_errno(napi_env env, const char *call) {
  const char *name = strerrorname_np(errno);
  napi_throw_error(env, name != NULL ? name : "EUNKNOWN", call);
  return NULL;
}

static int send_datagram(const struct sockaddr_un *address, socklen_t size, const void *bytes,
                         size_t length) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  ssize_t n;
  do n = sendto(fd, bytes, length, MSG_NOSIGNAL, (const struct sockaddr *)address, size);
  while (n < 0 && errno == EINTR);
  int err = errno;
  close(fd);
  errno = err;
  return n < 0 ? -1 : 0;
}

/* sdNotify(socket: Buffer, message: Buffer). Never blocks: a full queue is EAGAIN. */
static napi_value sd_notify(napi_env env, napi_callback_info info) {
  size_t argc = 2, name_length, length;
  napi_value argv[2];
  uint8_t *name, *message;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 2 || !arg_buffer(env, argv[0], &name, &name_length) ||
      !arg_buffer(env, argv[1], &message, &length))
    return NULL;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (name_length < 2 || name_length >= sizeof address.sun_path ||
      memchr(name, 0, name_length) != NULL || (name[0] != '/' && name[0] != '@'))
    return throw_range(env, "want the path or the @name of a socket");
  memcpy(address.sun_path, name, name_length);
  if (name[0] == '@') address.sun_path[0] = '\0';
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_length);
  if (send_datagram(&address, size, message, length) != 0) return throw_errno(env, "sendto");
  return NULL;
}

/*
 * setNoNewPrivs(). prctl(2) reaches the calling thread alone, and Node has a dozen. A seccomp
 * filter that allows everything, installed with TSYNC, brings the flag to all of them (seccomp(2)).
 */
static napi_value set_no_new_privs(napi_env env, napi_callback_info info) {
  (void)info;
  struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {.len = 1, .filter = allow};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return throw_errno(env, "prctl");
  long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
  if (rc > 0) errno = EBUSY; /* the id of a thread that could not follow */
  if (rc != 0) return throw_errno(env, "seccomp");
  return NULL;
}

/* noCoreFiles(). Node has no setrlimit; processes that are started later inherit it. */
static napi_value no_core_files(napi_env env, napi_callback_info info) {
  (void)info;
  const struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return throw_errno(env, "setrlimit");
  return NULL;
}

void init_service(napi_env env, napi_value exports) {
  export_function(env, exports, "sdNotify", sd_notify);
  export_function(env, exports, "setNoNewPrivs", set_no_new_privs);
  export_function(env, exports, "noCoreFiles", no_core_files);
}
