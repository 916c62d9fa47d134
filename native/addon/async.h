/* Promise-returning jobs on libuv's thread pool. A job owns no JS value but keeps references. */
#ifndef BUILDERD_ASYNC_H
#define BUILDERD_ASYNC_H

#define NAPI_VERSION 9
#include <node_api.h>
#include <pthread.h>
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

/*
 * Keeps jobs on one object in the order in which they were started, whichever pool thread gets
 * them: a job waits for its turn before it touches the object. Several may be under way, so the
 * next one starts at once when one ends, without a trip through the main thread. libuv takes jobs
 * in the order of the calls, so the one whose turn it is never waits behind one that waits for it.
 */
typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t moved;
  uint64_t issued;  /* main thread only */
  uint64_t settled; /* main thread only */
  uint64_t turn;
} turnstile;

void turnstile_init(turnstile *t);
void turnstile_destroy(turnstile *t);
/* Main thread: takes a number. */
uint64_t turnstile_take(turnstile *t);
/* Pool thread: waits for the number; leave() lets the next one in. */
void turnstile_enter(turnstile *t, uint64_t number);
void turnstile_leave(turnstile *t);
/* Main thread: a job has settled; true from then on when none is under way. */
void turnstile_settle(turnstile *t);
int turnstile_idle(const turnstile *t);

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
