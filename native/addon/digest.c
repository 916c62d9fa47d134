/* SHA-256 off the main thread, by the OpenSSL that Node itself carries. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "async.h"
#include "modules.h"

#define CHUNK (1024 * 1024)

typedef struct {
  EVP_MD_CTX *ctx;
  turnstile order; /* updates run one after another, in the order of the calls */
} hasher;

static void hasher_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  hasher *h = data;
  EVP_MD_CTX_free(h->ctx);
  turnstile_destroy(&h->order);
  free(h);
}

static napi_value digest_buffer(napi_env env, EVP_MD_CTX *ctx) {
  unsigned char md[EVP_MAX_MD_SIZE];
  unsigned int md_len = 0;
  void *copy;
  napi_value value;
  if (EVP_DigestFinal_ex(ctx, md, &md_len) != 1) return throw_range(env, "cannot finish the digest");
  napi_create_buffer_copy(env, md_len, md, &copy, &value);
  return value;
}

static napi_value hasher_open(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value handle;
  hasher *h = calloc(1, sizeof *h);
  if (h == NULL) return throw_range(env, "out of memory");
  turnstile_init(&h->order);
  h->ctx = EVP_MD_CTX_new();
  if (h->ctx == NULL || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
    hasher_free(env, h, NULL);
    return throw_range(env, "cannot start a digest");
  }
  napi_create_external(env, h, hasher_free, NULL, &handle);
  return handle;
}

typedef struct {
  hasher *h;
  uint64_t number;
  const uint8_t *bytes;
  size_t length;
} update_args;

static void update_execute(job *j) {
  update_args *a = j->data;
  turnstile_enter(&a->h->order, a->number);
  if (EVP_DigestUpdate(a->h->ctx, a->bytes, a->length) != 1) {
    j->code = "ERR_DIGEST";
    j->message = "the digest failed";
  }
  turnstile_leave(&a->h->order);
}

static void update_cleanup(job *j) {
  update_args *a = j->data;
  turnstile_settle(&a->h->order);
  free(a);
}

/* hasherUpdate(handle, buffer, length): Promise; several may be under way. */
static napi_value hasher_update(napi_env env, napi_callback_info info) {
  size_t argc = 3, capacity;
  napi_value argv[3];
  double length;
  uint8_t *bytes;
  void *handle;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 3 || !arg_external(env, argv[0], &handle) ||
      !arg_buffer(env, argv[1], &bytes, &capacity) || !arg_double(env, argv[2], &length))
    return NULL;
  hasher *h = handle;
  if (!(length >= 0 && length <= (double)capacity)) return throw_range(env, "length is out of range");
  update_args *a = calloc(1, sizeof *a);
  job *j = calloc(1, sizeof *j);
  if (a == NULL || j == NULL) abort();
  *a = (update_args){.h = h,
                     .number = turnstile_take(&h->order),
                     .bytes = bytes,
                     .length = (size_t)length};
  *j = (job){.execute = update_execute, .cleanup = update_cleanup, .data = a};
  return job_start(env, j, argv, 2);
}

/* hasherDigest(handle): Buffer. The handle is finished afterwards. */
static napi_value hasher_digest(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  void *handle;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 1 || !arg_external(env, argv[0], &handle)) return NULL;
  hasher *h = handle;
  if (!turnstile_idle(&h->order)) return throw_range(env, "the hasher is busy");
  return digest_buffer(env, h->ctx);
}

typedef struct {
  int fd;
  uint64_t size;
  EVP_MD_CTX *ctx;
} file_args;

static int hash_zeros(EVP_MD_CTX *ctx, uint64_t count) {
  static const uint8_t zeros[64 * 1024];
  while (count > 0) {
    size_t n = count < sizeof zeros ? (size_t)count : sizeof zeros;
    if (EVP_DigestUpdate(ctx, zeros, n) != 1) return 0;
    count -= n;
  }
  return 1;
}

static const char *hash_range(file_args *a, uint8_t *chunk, uint64_t pos, uint64_t end) {
  while (pos < end) {
    size_t want = end - pos < CHUNK ? (size_t)(end - pos) : CHUNK;
    ssize_t n;
    do n = pread(a->fd, chunk, want, (off_t)pos);
    while (n < 0 && errno == EINTR);
    if (n < 0) return "read";
    if (n == 0) {
      errno = 0;
      return "the file is shorter than expected";
    }
    if (EVP_DigestUpdate(a->ctx, chunk, (size_t)n) != 1) return "the digest failed";
    pos += (uint64_t)n;
  }
  return NULL;
}

/* Holes are found with SEEK_DATA (lseek(2)) and hashed from a constant instead of being read. */
static void file_execute(job *j) {
  file_args *a = j->data;
  uint8_t *chunk = malloc(CHUNK);
  uint64_t pos = 0;
  errno = ENOMEM;
  j->message = chunk == NULL ? "allocate" : NULL;
  while (j->message == NULL && pos < a->size) {
    off_t data = lseek(a->fd, (off_t)pos, SEEK_DATA);
    uint64_t start = data >= 0 ? (uint64_t)data : errno == ENXIO ? a->size : pos;
    if (start > a->size) start = a->size;
    if (!hash_zeros(a->ctx, start - pos)) j->message = "the digest failed";
    if (start >= a->size || j->message != NULL) break;
    off_t hole = lseek(a->fd, (off_t)start, SEEK_HOLE);
    uint64_t end = hole > (off_t)start && (uint64_t)hole < a->size ? (uint64_t)hole : a->size;
    j->message = hash_range(a, chunk, start, end);
    pos = end;
  }
  if (j->message != NULL) {
    j->err = errno;
    j->code = "ERR_DIGEST";
  }
  free(chunk);
}

static napi_value file_result(napi_env env, job *j) {
  return digest_buffer(env, ((file_args *)j->data)->ctx);
}

static void file_cleanup(job *j) {
  file_args *a = j->data;
  EVP_MD_CTX_free(a->ctx);
  free(a);
}

/* sha256File(fd, size): Promise<Buffer> of the first `size` bytes. Moves the descriptor's offset. */
static napi_value sha256_file(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  int32_t fd;
  double size;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 2 || napi_get_value_int32(env, argv[0], &fd) != napi_ok ||
      !arg_double(env, argv[1], &size) || !(size >= 0 && size < 9e15))
    return throw_range(env, "want (fd: number, size: number)");
  file_args *a = calloc(1, sizeof *a);
  job *j = calloc(1, sizeof *j);
  if (a == NULL || j == NULL) abort();
  *a = (file_args){.fd = fd, .size = (uint64_t)size, .ctx = EVP_MD_CTX_new()};
  if (a->ctx == NULL || EVP_DigestInit_ex(a->ctx, EVP_sha256(), NULL) != 1) abort();
  *j = (job){.execute = file_execute, .result = file_result, .cleanup = file_cleanup, .data = a};
  return job_start(env, j, NULL, 0);
}

void init_digest(napi_env env, napi_value exports) {
  export_function(env, exports, "hasherOpen", hasher_open);
  export_function(env, exports, "hasherUpdate", hasher_update);
  export_function(env, exports, "hasherDigest", hasher_digest);
  export_function(env, exports, "sha256File", sha256_file);
}
