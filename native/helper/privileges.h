#ifndef BUILDERD_PRIVILEGES_H
#define BUILDERD_PRIVILEGES_H
#include <sys/types.h>

/* Becomes a plain id for good: no groups, no capabilities, nothing to gain by execve. */
void drop_privileges(uid_t id);

/* Lowers soft and hard limit; never raises what the host allows. */
void limit_resource(int resource, unsigned long long value, const char *step);

#endif
