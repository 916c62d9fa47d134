/* Promise-returning jobs on libuv's thread pool. A job owns no JS value but keeps references. */
#ifndef BUILDERD_ASYNC_H
#define BUILDERD_ASYNC_H

#define NAPI_VERSION 9
#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

#define JOB_MAX_REFS 3

typedef struct job job;
struct job {
  /* Runs on a pool thread: no Node-API calls. On failure sets err (errno or 0) and message. */
  void (*execute)(job *j);
  /* Runs on the main thread before the promise settles; may be NULL: the result is `number`. */
  napi_value (*result)(napi_env env, job *j);
  /* Runs on the main thread always, last; frees what the job itself allocated. May be NULL. */
  void (*cleanup)(job *j);
  void *data;
  double number;
  int err;
  const char *code;    /* error code string when not an errno */
  const char *message; /* NULL means success */
  napi_async_work work;
  napi_deferred deferred;
  napi_ref refs[JOB_MAX_REFS];
  int nrefs;
};

/* Starts the job and returns its promise; `keep` values stay alive until it settles. */
napi_value job_start(napi_env env, job *j, const napi_value *keep, int nkeep);

/*
 * Helpers for argument checks; throw a JS error and return 0 on failure. A number may be NaN:
 * write bounds so that NaN is outside, because casting it to an integer is undefined.
 */
int arg_buffer(napi_env env, napi_value value, uint8_t **data, size_t *length);
int arg_double(napi_env env, napi_value value, double *out);
int arg_external(napi_env env, napi_value value, void **out);
napi_value throw_range(napi_env env, const char *message);
void export_function(napi_env env, napi_value exports, const char *name, napi_callback fn);

#endif
