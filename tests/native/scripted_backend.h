/* A backend without a descriptor or system call: what peers do is a script, what they get is kept.
 *
 * That the loop works on it proves that nothing above backend.h takes a descriptor for granted. Time is
 * scripted as well: a turn with nothing to do lets the clock run on by as long as it would have waited.
 *
 * It has two makes, and the same tests are linked with each. memory_backend.c does everything at once, as
 * readiness does. late_backend.c does everything turns later, and what nobody has asked for, as completions do.
 */
#ifndef SCRIPTED_BACKEND_H
#define SCRIPTED_BACKEND_H

#include "loop.h"

typedef struct scripted scripted;

extern const bool script_is_late;
extern const char script_address[]; /* what the loop is told of a client's address */

scripted *script_open(mux_loop *loop);
int script_listener(scripted *script); /* a handle for mux_listen */
int script_peer(scripted *script);     /* a handle for mux_adopt */
int script_connect(scripted *script, int listener); /* the handle that it will have */
int script_dialled(const scripted *script); /* the handle of the last connection that the loop opened */

void script_arrive(scripted *script, int handle, const char *bytes, size_t size);
void script_end(scripted *script, int handle); /* EOF after what has arrived */
void script_break(scripted *script, int handle, int error); /* after what has arrived */
void script_window(scripted *script, int handle, size_t size); /* so much more is taken */
void script_refuse(scripted *script, int listener, int error); /* accepts fail from now on; 0: no more */
void script_unreachable(scripted *script, int error); /* the next connect ends so; 0: well */
void script_slow(scripted *script, int handle, bool slow); /* it does not acknowledge */
void script_wake(scripted *script);

const char *script_got(const scripted *script, int handle, size_t *size); /* what the peer got */
bool script_ended(const scripted *script, int handle);    /* the peer was sent EOF */
bool script_reset(const scripted *script, int handle);    /* and that with a reset */
bool script_released(const scripted *script, int handle); /* the handle was given back */
int script_attempts(const scripted *script, int listener); /* accepts that the loop has let happen */
bool script_is_busy(const scripted *script); /* without anybody's doing, the next turn would not be like the last */

#endif
