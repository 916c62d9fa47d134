/*
 * Reads one layer blob from a descriptor: hashes the packed bytes and gives the plain ones.
 * gzip (RFC 1952, several members) is undone by isa-l, found at run time so that a host without
 * it only loses this one feature. The bytes are hostile: isa-l bounds every output write.
 */
#include <dlfcn.h>
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "async.h"
#include "modules.h"

#define INPUT_BYTES (256 * 1024)
#define GZIP_FLAGS_AT 3

static void (*isal_init)(struct inflate_state *);
static void (*isal_reset)(struct inflate_state *);
static int (*isal_run)(struct inflate_state *);

typedef struct {
  int fd;
  int gzip;
  turnstile order; /* fills run one after another, in the order of the calls */
  int failed;      /* a fill failed: the later ones fail too */
  int at_end;      /* read() returned 0 */
  int in_member;   /* gzip: between a member's header and its trailer */
  int header_seen; /* gzip: bytes of the member looked at, up to its flags */
  int any_member;
  int padding;     /* only zero bytes may follow */
  uint64_t bytes_in;
  EVP_MD_CTX *digest;
  struct inflate_state state;
  uint8_t input[INPUT_BYTES];
} layer_stream;

static int isal_ready(void) {
  if (isal_run != NULL) return 1;
  void *lib = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
  if (lib == NULL) return 0;
  *(void **)&isal_init = dlsym(lib, "isal_inflate_init");
  *(void **)&isal_reset = dlsym(lib, "isal_inflate_reset");
  *(void **)&isal_run = dlsym(lib, "isal_inflate");
  if (isal_init == NULL || isal_reset == NULL) isal_run = NULL;
  return isal_run != NULL;
}

static void fail(job *j, int err, const char *code, const char *message) {
  j->err = err;
  j->code = code;
  j->message = message;
}

/*
 * Reads and hashes packed bytes. -1 on error, else the number read; 0 at the end. By position: the
 * descriptor may be read a second time, and its offset may be shared with another process.
 */
static ssize_t read_packed(layer_stream *s, job *j, uint8_t *into, size_t capacity) {
  ssize_t n;
  do n = pread(s->fd, into, capacity, (off_t)s->bytes_in);
  while (n < 0 && errno == EINTR);
  if (n < 0) {
    fail(j, errno, NULL, "read");
    return -1;
  }
  if (n == 0) s->at_end = 1;
  s->bytes_in += (uint64_t)n;
  if (n > 0 && EVP_DigestUpdate(s->digest, into, (size_t)n) != 1) {
    fail(j, 0, "ERR_DIGEST", "the digest failed");
    return -1;
  }
  return n;
}

static void fill_plain(layer_stream *s, job *j, uint8_t *out, size_t capacity) {
  size_t filled = 0;
  while (filled < capacity) {
    ssize_t n = read_packed(s, j, out + filled, capacity - filled);
    if (n < 0) return;
    if (n == 0) break;
    filled += (size_t)n;
  }
  j->number = (double)filled;
}

static int only_zeros(const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (bytes[i] != 0) return 0;
  return 1;
}

/* Between members: another member starts with its magic byte; zero padding may end the file. */
static int between_members(layer_stream *s, job *j) {
  if (s->padding || s->state.next_in[0] == 0) {
    s->padding = s->any_member;
    if (!s->padding || !only_zeros(s->state.next_in, s->state.avail_in)) {
      fail(j, 0, "ERR_GZIP_TRAILING", "bytes follow the gzip data");
      return 0;
    }
    s->state.avail_in = 0;
    return 1;
  }
  if (s->state.next_in[0] != 0x1f) {
    fail(j, 0, s->any_member ? "ERR_GZIP_TRAILING" : "ERR_GZIP", "not a gzip member");
    return 0;
  }
  uint8_t *next_in = s->state.next_in;
  uint32_t avail_in = s->state.avail_in;
  isal_reset(&s->state);
  s->state.crc_flag = ISAL_GZIP;
  s->state.next_in = next_in;
  s->state.avail_in = avail_in;
  s->in_member = 1;
  s->header_seen = 0;
  return 1;
}

/* RFC 1952 2.3.1.2: reserved flags must be refused; isa-l takes them. */
static int has_reserved_flags(layer_stream *s) {
  for (uint32_t i = 0; i < s->state.avail_in && s->header_seen < GZIP_FLAGS_AT + 1; i++) {
    if (s->header_seen++ == GZIP_FLAGS_AT && (s->state.next_in[i] & 0xe0) != 0) return 1;
  }
  return 0;
}

static void fill_gzip(layer_stream *s, job *j, uint8_t *out, size_t capacity) {
  size_t filled = 0;
  while (filled < capacity) {
    if (s->state.avail_in == 0 && !s->at_end) {
      ssize_t n = read_packed(s, j, s->input, INPUT_BYTES);
      if (n < 0) return;
      s->state.next_in = s->input;
      s->state.avail_in = (uint32_t)n;
    }
    if (!s->in_member) {
      if (s->state.avail_in == 0) {
        if (!s->any_member) return fail(j, 0, "ERR_GZIP", "the gzip data is empty");
        break;
      }
      if (!between_members(s, j)) return;
      if (!s->in_member) continue;
    }
    s->state.next_out = out + filled;
    s->state.avail_out = (uint32_t)(capacity - filled);
    if (has_reserved_flags(s)) return fail(j, 0, "ERR_GZIP", "the gzip header has unknown flags");
    int rc = isal_run(&s->state);
    if (rc != ISAL_DECOMP_OK && rc != ISAL_END_INPUT && rc != ISAL_OUT_OVERFLOW)
      return fail(j, 0, "ERR_GZIP", "the gzip data is damaged");
    size_t produced = (capacity - filled) - s->state.avail_out;
    filled += produced;
    if (s->state.block_state == ISAL_BLOCK_FINISH) {
      s->in_member = 0;
      s->any_member = 1;
    } else if (produced == 0 && s->state.avail_in == 0 && s->at_end) {
      return fail(j, 0, "ERR_GZIP_TRUNCATED", "the gzip data ends early");
    }
  }
  j->number = (double)filled;
}

typedef struct {
  layer_stream *stream;
  uint64_t number;
  uint8_t *out;
  size_t capacity;
  uint64_t bytes_in; /* packed bytes read when this fill ended */
} fill_args;

static void fill_execute(job *j) {
  fill_args *a = j->data;
  layer_stream *s = a->stream;
  turnstile_enter(&s->order, a->number);
  if (s->failed)
    fail(j, 0, "ERR_STREAM_FAILED", "an earlier read failed");
  else if (s->gzip)
    fill_gzip(s, j, a->out, a->capacity);
  else
    fill_plain(s, j, a->out, a->capacity);
  if (j->message != NULL) s->failed = 1;
  a->bytes_in = s->bytes_in;
  turnstile_leave(&s->order);
}

static napi_value fill_result(napi_env env, job *j) {
  napi_value result, value;
  napi_create_object(env, &result);
  napi_create_double(env, j->number, &value);
  napi_set_named_property(env, result, "length", value);
  napi_create_double(env, (double)((fill_args *)j->data)->bytes_in, &value);
  napi_set_named_property(env, result, "bytesIn", value);
  return result;
}

static void fill_cleanup(job *j) {
  fill_args *a = j->data;
  turnstile_settle(&a->stream->order);
  free(a);
}

static void stream_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  layer_stream *s = data;
  EVP_MD_CTX_free(s->digest);
  turnstile_destroy(&s->order);
  free(s);
}

/* loadIsal(): whether isa-l is on this host; it is mapped into this process from then on. */
static napi_value load_isal(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value value;
  napi_get_boolean(env, isal_ready(), &value);
  return value;
}

/* layerStreamOpen(fd, gzip): handle, or null when isa-l is not on this host. */
static napi_value stream_open(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], handle;
  int32_t fd;
  bool gzip;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 2 || napi_get_value_int32(env, argv[0], &fd) != napi_ok ||
      napi_get_value_bool(env, argv[1], &gzip) != napi_ok)
    return throw_range(env, "want (fd: number, gzip: boolean)");
  if (gzip && !isal_ready()) {
    napi_get_null(env, &handle);
    return handle;
  }
  layer_stream *s = calloc(1, sizeof *s);
  if (s == NULL) return throw_range(env, "out of memory");
  turnstile_init(&s->order);
  s->fd = fd;
  s->gzip = gzip;
  s->digest = EVP_MD_CTX_new();
  if (s->digest == NULL || EVP_DigestInit_ex(s->digest, EVP_sha256(), NULL) != 1) {
    stream_free(env, s, NULL);
    return throw_range(env, "cannot start a digest");
  }
  if (gzip) {
    isal_init(&s->state);
    s->state.crc_flag = ISAL_GZIP;
  }
  napi_create_external(env, s, stream_free, NULL, &handle);
  return handle;
}

/* layerStreamFill(handle, buffer, capacity): Promise<{length, bytesIn}>; short only at the end. */
static napi_value stream_fill(napi_env env, napi_callback_info info) {
  size_t argc = 3, length;
  napi_value argv[3];
  double capacity;
  uint8_t *out;
  void *handle;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 3 || !arg_external(env, argv[0], &handle) ||
      !arg_buffer(env, argv[1], &out, &length) || !arg_double(env, argv[2], &capacity))
    return NULL;
  layer_stream *s = handle;
  if (!(capacity >= 1 && capacity <= (double)length))
    return throw_range(env, "capacity is out of range");
  fill_args *a = calloc(1, sizeof *a);
  job *j = calloc(1, sizeof *j);
  if (a == NULL || j == NULL) abort();
  *a = (fill_args){.stream = s,
                   .number = turnstile_take(&s->order),
                   .out = out,
                   .capacity = (size_t)capacity};
  *j = (job){.execute = fill_execute, .result = fill_result, .cleanup = fill_cleanup, .data = a};
  return job_start(env, j, argv, 2);
}

/* layerStreamResult(handle): { digest: Buffer of the packed bytes so far }; no fill may run. */
static napi_value stream_result(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1], result, value;
  void *handle, *copy;
  unsigned char md[EVP_MAX_MD_SIZE];
  unsigned int md_len = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 1 || !arg_external(env, argv[0], &handle)) return NULL;
  layer_stream *s = handle;
  if (!turnstile_idle(&s->order)) return throw_range(env, "the stream is busy");
  EVP_MD_CTX *snapshot = EVP_MD_CTX_new();
  if (snapshot == NULL || EVP_MD_CTX_copy_ex(snapshot, s->digest) != 1 ||
      EVP_DigestFinal_ex(snapshot, md, &md_len) != 1) {
    EVP_MD_CTX_free(snapshot);
    return throw_range(env, "cannot finish the digest");
  }
  EVP_MD_CTX_free(snapshot);
  napi_create_object(env, &result);
  napi_create_buffer_copy(env, md_len, md, &copy, &value);
  napi_set_named_property(env, result, "digest", value);
  return result;
}

void init_layer_stream(napi_env env, napi_value exports) {
  export_function(env, exports, "loadIsal", load_isal);
  export_function(env, exports, "layerStreamOpen", stream_open);
  export_function(env, exports, "layerStreamFill", stream_fill);
  export_function(env, exports, "layerStreamResult", stream_result);
}
