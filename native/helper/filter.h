#ifndef BUILDERD_FILTER_H
#define BUILDERD_FILTER_H

/* Takes the system calls of filter.c from this process and all that it starts, for good. */
void filter_system_calls(void);

#endif
