#ifndef BUILDERD_WORKER_H
#define BUILDERD_WORKER_H
#include "options.h"

/* The last steps of the process that becomes the worker; does not return. */
__attribute__((noreturn)) void become_worker(const launch_options *o);

#endif
