/* A backend without a descriptor or system call: what peers do is a script, what they get is kept.
 *
 * That the loop works on it proves that nothing above backend.h takes a descriptor for granted. Time is
 * scripted as well: a turn with nothing to do lets the clock run on by as long as it would have waited.
 */
#ifndef MEMORY_BACKEND_H
#define MEMORY_BACKEND_H

#include "loop.h"

typedef struct memory_backend memory_backend;

memory_backend *memory_open(mux_loop *loop);
int memory_listener(memory_backend *memory); /* a handle for mux_listen */
int memory_peer(memory_backend *memory);     /* a handle for mux_adopt */
int memory_connect(memory_backend *memory, int listener);

void memory_arrive(memory_backend *memory, int handle, const char *bytes, size_t size);
void memory_end(memory_backend *memory, int handle); /* EOF after what has arrived */
void memory_break(memory_backend *memory, int handle, int error); /* after what has arrived */
void memory_window(memory_backend *memory, int handle, size_t size); /* so much more is taken */
void memory_refuse(memory_backend *memory, int listener, int error); /* the next accept fails */
void memory_unreachable(memory_backend *memory, int error); /* the next connect ends so; 0: well */
void memory_slow(memory_backend *memory, int handle, bool slow); /* it does not acknowledge */
void memory_wake(memory_backend *memory);

const char *memory_got(const memory_backend *memory, int handle, size_t *size); /* what the peer got */
bool memory_ended(const memory_backend *memory, int handle);    /* the peer was sent EOF */
bool memory_reset(const memory_backend *memory, int handle);    /* and that with a reset */
bool memory_released(const memory_backend *memory, int handle); /* the handle was given back */
int memory_attempts(const memory_backend *memory, int listener); /* accepts so far */

#endif
