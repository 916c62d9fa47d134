#ifndef BUILDERD_NEW_ROOT_H
#define BUILDERD_NEW_ROOT_H
#include "options.h"

/* Makes the bind mounts the whole file system of this mount namespace. */
void enter_new_root(const launch_options *o);

#endif
