/* Extended attributes by path, never following the last symlink (xattr(7)). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "async.h"
#include "modules.h"

#define XATTR_MAX (64 * 1024) /* the kernel's limit for a value and for a list of names */

static napi_value throw_errno(napi_env env, const char *call) {
  napi_throw_error(env, strerrorname_np(errno), call);
  return NULL;
}

/* NUL-terminates a Buffer argument; the caller frees it. NULL when a JS error is pending. */
static char *path_argument(napi_env env, napi_value value) {
  uint8_t *bytes;
  size_t length;
  if (!arg_buffer(env, value, &bytes, &length)) return NULL;
  if (memchr(bytes, 0, length) != NULL) {
    throw_range(env, "a path or name holds a NUL byte");
    return NULL;
  }
  char *copy = malloc(length + 1);
  if (copy == NULL) abort();
  memcpy(copy, bytes, length);
  copy[length] = '\0';
  return copy;
}

/* llistxattr(path: Buffer): Buffer of NUL-terminated names. */
static napi_value list_xattr(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1], value;
  char names[XATTR_MAX];
  void *copy;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  char *path = argc < 1 ? NULL : path_argument(env, argv[0]);
  if (path == NULL) return NULL;
  ssize_t n = llistxattr(path, names, sizeof names);
  free(path);
  if (n < 0) return throw_errno(env, "llistxattr");
  napi_create_buffer_copy(env, (size_t)n, names, &copy, &value);
  return value;
}

/* lgetxattr(path: Buffer, name: Buffer): Buffer. */
static napi_value get_xattr(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], value;
  char bytes[XATTR_MAX];
  void *copy;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  char *path = argc < 2 ? NULL : path_argument(env, argv[0]);
  if (path == NULL) return NULL;
  char *name = path_argument(env, argv[1]);
  ssize_t n = name == NULL ? -2 : lgetxattr(path, name, bytes, sizeof bytes);
  free(path);
  free(name);
  if (n == -2) return NULL;
  if (n < 0) return throw_errno(env, "lgetxattr");
  napi_create_buffer_copy(env, (size_t)n, bytes, &copy, &value);
  return value;
}

void init_xattr(napi_env env, napi_value exports) {
  export_function(env, exports, "llistxattr", list_xattr);
  export_function(env, exports, "lgetxattr", get_xattr);
}
