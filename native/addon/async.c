#include "async.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_execute(napi_env env, void *data) {
  (void)env;
  job *j = data;
  j->execute(j);
}

static napi_value make_error(napi_env env, const job *j) {
  char text[256];
  if (j->err != 0)
    snprintf(text, sizeof text, "%s: %s", j->message, strerror(j->err));
  else
    snprintf(text, sizeof text, "%s", j->message);
  const char *name = j->err != 0 ? strerrorname_np(j->err) : j->code;
  napi_value code, message, error;
  napi_create_string_utf8(env, name != NULL ? name : "EUNKNOWN", NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, code, message, &error);
  return error;
}

static void on_complete(napi_env env, napi_status status, void *data) {
  job *j = data;
  napi_value value = NULL;
  if (status == napi_cancelled) {
    j->message = "the job was cancelled";
    j->code = "ECANCELED";
    j->err = 0;
  }
  if (j->message != NULL) {
    napi_reject_deferred(env, j->deferred, make_error(env, j));
  } else {
    if (j->result != NULL)
      value = j->result(env, j);
    else
      napi_create_double(env, j->number, &value);
    napi_resolve_deferred(env, j->deferred, value);
  }
  for (int i = 0; i < j->nrefs; i++) napi_delete_reference(env, j->refs[i]);
  napi_delete_async_work(env, j->work);
  if (j->cleanup != NULL) j->cleanup(j);
  free(j);
}

napi_value job_start(napi_env env, job *j, const napi_value *keep, int nkeep) {
  napi_value promise, name;
  for (j->nrefs = 0; j->nrefs < nkeep; j->nrefs++)
    napi_create_reference(env, keep[j->nrefs], 1, &j->refs[j->nrefs]);
  napi_create_promise(env, &j->deferred, &promise);
  napi_create_string_utf8(env, "builderd", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, NULL, name, on_execute, on_complete, j, &j->work);
  napi_queue_async_work(env, j->work);
  return promise;
}

int arg_buffer(napi_env env, napi_value value, uint8_t **data, size_t *length) {
  bool is_buffer = false;
  if (napi_is_buffer(env, value, &is_buffer) != napi_ok || !is_buffer) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "want a Buffer");
    return 0;
  }
  return napi_get_buffer_info(env, value, (void **)data, length) == napi_ok;
}

int arg_double(napi_env env, napi_value value, double *out) {
  if (napi_get_value_double(env, value, out) == napi_ok) return 1;
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "want a number");
  return 0;
}

int arg_external(napi_env env, napi_value value, void **out) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_external &&
      napi_get_value_external(env, value, out) == napi_ok && *out != NULL)
    return 1;
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "want a handle of this addon");
  return 0;
}

napi_value throw_range(napi_env env, const char *message) {
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
  return NULL;
}

void export_function(napi_env env, napi_value exports, const char *name, napi_callback fn) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, fn, NULL, &value);
  napi_set_named_property(env, exports, name, value);
}

void turnstile_init(turnstile *t) {
  memset(t, 0, sizeof *t);
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->moved, NULL);
}

void turnstile_destroy(turnstile *t) {
  pthread_cond_destroy(&t->moved);
  pthread_mutex_destroy(&t->lock);
}

uint64_t turnstile_take(turnstile *t) { return t->issued++; }

void turnstile_enter(turnstile *t, uint64_t number) {
  pthread_mutex_lock(&t->lock);
  while (t->turn != number) pthread_cond_wait(&t->moved, &t->lock);
  pthread_mutex_unlock(&t->lock);
}

void turnstile_leave(turnstile *t) {
  pthread_mutex_lock(&t->lock);
  t->turn++;
  pthread_cond_broadcast(&t->moved);
  pthread_mutex_unlock(&t->lock);
}

void turnstile_settle(turnstile *t) { t->settled++; }

int turnstile_idle(const turnstile *t) { return t->issued == t->settled; }
