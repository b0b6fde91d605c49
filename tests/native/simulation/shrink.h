#ifndef SHRINK_H
#define SHRINK_H

#include <stddef.h>

#include "script.h"

#define SHRINK_SECONDS 10 /* of one try: a run takes a millisecond */
#define SHRINK_ROUNDS 6   /* a second round seldom takes more away */

/* Run a script in a child. `name`: the invariant that it broke, "crash", "hang", or nothing. */
void shrink_try(const script *what, char *name, size_t size);
void shrink(script *what, const char *name);

#endif
