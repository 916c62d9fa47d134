#ifndef BUILDERD_INIT_H
#define BUILDERD_INIT_H
#include "options.h"

/*
 * The first process inside: builds the root, starts the worker, waits for it and tells how it
 * ended. `alive_fd` reads end-of-file once the launcher is gone. Does not return.
 */
__attribute__((noreturn)) void run_init(const launch_options *o, int alive_fd);

#endif
