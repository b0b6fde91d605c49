#ifndef CALLS_H
#define CALLS_H

#include <stdint.h>

void calls_run(uint64_t seed); /* prints what each call says */

#endif
