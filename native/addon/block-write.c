/*
 * Writes many pieces of one buffer to many places of one file with few system calls: pieces that
 * touch on disk go into one pwritev(2). A piece that ends inside a 4 KiB block is padded with
 * zeros to its end, so a reused block never shows what lay there before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "async.h"
#include "modules.h"

#define BLOCK 4096
#define MAX_IOV 512
#define OP_NUMBERS 3 /* destination offset, source offset, length */

static const uint8_t zero_block[BLOCK];

typedef struct {
  int fd;
  const uint8_t *source;
  double *ops;
  size_t count;
} write_args;

static int write_vector(int fd, struct iovec *iov, int n, off_t at) {
  while (n > 0) {
    ssize_t done = pwritev(fd, iov, n, at);
    if (done < 0) {
      if (errno == EINTR) continue;
      return 0;
    }
    at += done;
    while (n > 0 && (size_t)done >= iov->iov_len) {
      done -= (ssize_t)iov->iov_len;
      iov++;
      n--;
    }
    if (n > 0) {
      iov->iov_base = (uint8_t *)iov->iov_base + done;
      iov->iov_len -= (size_t)done;
    }
  }
  return 1;
}

static void write_execute(job *j) {
  write_args *a = j->data;
  struct iovec iov[MAX_IOV];
  int n = 0;
  off_t start = 0, end = 0;
  double total = 0;
  for (size_t i = 0; i < a->count; i++) {
    const double *op = a->ops + i * OP_NUMBERS;
    off_t at = (off_t)op[0];
    size_t length = (size_t)op[2];
    if (n > 0 && (at != end || n + 2 > MAX_IOV)) {
      if (!write_vector(a->fd, iov, n, start)) goto failed;
      n = 0;
    }
    if (n == 0) start = at;
    iov[n++] = (struct iovec){.iov_base = (void *)(a->source + (size_t)op[1]), .iov_len = length};
    end = at + (off_t)length;
    if (end % BLOCK != 0) {
      size_t pad = (size_t)(BLOCK - end % BLOCK);
      iov[n++] = (struct iovec){.iov_base = (void *)zero_block, .iov_len = pad};
      end += (off_t)pad;
    }
    total += op[2];
  }
  if (n > 0 && !write_vector(a->fd, iov, n, start)) goto failed;
  j->number = total;
  return;
failed:
  j->err = errno;
  j->message = "write";
}

/* The other way round: pieces of the file into the buffer. The end of the file is a fault. */
static void read_execute(job *j) {
  write_args *a = j->data;
  for (size_t i = 0; i < a->count; i++) {
    const double *op = a->ops + i * OP_NUMBERS;
    off_t at = (off_t)op[0];
    uint8_t *into = (uint8_t *)a->source + (size_t)op[1];
    size_t left = (size_t)op[2];
    while (left > 0) {
      ssize_t n = pread(a->fd, into, left, at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        j->err = n == 0 ? ENODATA : errno;
        j->message = "read";
        return;
      }
      into += n;
      at += n;
      left -= (size_t)n;
    }
  }
}

static void write_cleanup(job *j) {
  write_args *a = j->data;
  free(a->ops);
  free(a);
}

static napi_value start_pieces(napi_env env, napi_callback_info info, void (*execute)(job *)) {
  size_t argc = 4, source_length, ops_length;
  napi_value argv[4];
  int32_t fd;
  double count;
  uint8_t *source;
  void *ops;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 4 || napi_get_value_int32(env, argv[0], &fd) != napi_ok)
    return throw_range(env, "want (fd, source, ops, count)");
  if (!arg_buffer(env, argv[1], &source, &source_length) || !arg_double(env, argv[3], &count))
    return NULL;
  if (napi_get_typedarray_info(env, argv[2], &type, &ops_length, &ops, NULL, NULL) != napi_ok ||
      type != napi_float64_array || !(count >= 1 && count * OP_NUMBERS <= (double)ops_length))
    return throw_range(env, "ops is not a Float64Array of count triples");
  for (size_t i = 0; i < (size_t)count; i++) {
    const double *op = (const double *)ops + i * OP_NUMBERS;
    if (!(op[0] >= 0 && op[0] < 9e15 && op[1] >= 0 && op[2] >= 1 &&
          op[1] + op[2] <= (double)source_length))
      return throw_range(env, "a piece is out of range");
  }
  write_args *a = calloc(1, sizeof *a);
  job *j = calloc(1, sizeof *j);
  if (a == NULL || j == NULL) abort();
  size_t bytes = (size_t)count * OP_NUMBERS * sizeof(double);
  *a = (write_args){.fd = fd, .source = source, .ops = malloc(bytes), .count = (size_t)count};
  if (a->ops == NULL) abort();
  memcpy(a->ops, ops, bytes);
  *j = (job){.execute = execute, .cleanup = write_cleanup, .data = a};
  return job_start(env, j, argv + 1, 1);
}

/* writePieces(fd, source: Buffer, ops: Float64Array of triples, count): Promise<bytes>. */
static napi_value write_pieces(napi_env env, napi_callback_info info) {
  return start_pieces(env, info, write_execute);
}

/* readPieces(fd, target: Buffer, ops: the same triples, count): Promise. */
static napi_value read_pieces(napi_env env, napi_callback_info info) {
  return start_pieces(env, info, read_execute);
}

typedef struct {
  int fd;
  off_t offset, length;
} range_args;

static void writeback_execute(job *j) {
  range_args *a = j->data;
  if (sync_file_range(a->fd, a->offset, a->length, SYNC_FILE_RANGE_WRITE) != 0 && errno != ESPIPE &&
      errno != ENOSYS) {
    j->err = errno;
    j->message = "sync_file_range";
  }
}

static void writeback_cleanup(job *j) { free(j->data); }

/* startWriteback(fd, offset, length): Promise. Only a hint: durability is fsync's business. */
static napi_value start_writeback(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  int32_t fd;
  double offset, length;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 3 || napi_get_value_int32(env, argv[0], &fd) != napi_ok ||
      !arg_double(env, argv[1], &offset) || !arg_double(env, argv[2], &length) ||
      !(offset >= 0 && offset < 9e15 && length >= 0 && length < 9e15))
    return throw_range(env, "want (fd, offset, length)");
  range_args *a = calloc(1, sizeof *a);
  job *j = calloc(1, sizeof *j);
  if (a == NULL || j == NULL) abort();
  *a = (range_args){.fd = fd, .offset = (off_t)offset, .length = (off_t)length};
  *j = (job){.execute = writeback_execute, .cleanup = writeback_cleanup, .data = a};
  return job_start(env, j, NULL, 0);
}

static void free_aligned(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

/* alignedBuffer(size): Buffer whose memory starts at a page, as O_DIRECT wants it (open(2)). */
static napi_value aligned_buffer(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1], value;
  double size;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc < 1 || !arg_double(env, argv[0], &size)) return NULL;
  if (!(size >= BLOCK && size <= 1 << 30)) return throw_range(env, "size is out of range");
  size_t bytes = ((size_t)size + BLOCK - 1) / BLOCK * BLOCK;
  void *memory = aligned_alloc(BLOCK, bytes);
  if (memory == NULL) return throw_range(env, "out of memory");
  memset(memory, 0, bytes);
  if (napi_create_external_buffer(env, (size_t)size, memory, free_aligned, NULL, &value) != napi_ok) {
    free(memory);
    return throw_range(env, "cannot make a Buffer");
  }
  return value;
}

void init_block_write(napi_env env, napi_value exports) {
  export_function(env, exports, "writePieces", write_pieces);
  export_function(env, exports, "alignedBuffer", aligned_buffer);
  export_function(env, exports, "readPieces", read_pieces);
  export_function(env, exports, "startWriteback", start_writeback);
}
