/* A loop on the scripted backend, and what its tests say in one word.
 *
 * The same tests run on both backends, so what takes turns is waited for: poll_now, and whatever looks at a
 * peer, go on until nothing happens any more without somebody's doing. What is told meanwhile is kept.
 */
#ifndef SCRIPTED_H
#define SCRIPTED_H

#include <errno.h>

#include "check.h"
#include "scripted_backend.h"
#include "syscalls.h"

#define SECOND 1000000000LL
#define TOLD_MOST 4096
#define POLLS_MOST 1000 /* none of the scripts takes as many */

static mux_stats stats;
static mux_loop *loop;
static scripted *script;
static uint32_t slot, generation; /* of the connection that was adopted last */
static mux_event told[TOLD_MOST]; /* since the last poll_… before this one */
static bool told_first[TOLD_MOST]; /* of MUX_EV_LOST: it ended a relay first */
static uint64_t told_answered[TOLD_MOST]; /* and when its peer's first byte came */
static int told_count;
static bool told_is_old;

static inline mux_options usual(void)
{
    memset(&stats, 0, sizeof stats);
    mux_fault_clock = SECOND;
    told_count = 0;
    mux_options options = {.connections = 100, .read_chunk = 4096, .high = 1000, .low = 100,
                           .accept_pause = SECOND / 10, .reads = 16, .accepts = 64, .wake = -1,
                           .stats = &stats};
    return options;
}

static inline void begin(mux_options options)
{
    loop = mux_loop_bare(&options);
    CHECK(loop);
    script = script_open(loop);
}

static inline void end(void)
{
    mux_loop_free(loop);
}

/* One poll, which ends at `deadline` at the latest. */
static inline int poll_once(int64_t deadline)
{
    int count = mux_loop_poll(loop, deadline);
    CHECK(count >= 0);
    if (told_is_old)
        told_count = 0;
    told_is_old = false;
    CHECK(told_count + count <= TOLD_MOST);
    memcpy(told + told_count, mux_loop_events(loop), (size_t)count * sizeof *told);
    for (int i = told_count; i < told_count + count; i++) {
        uint64_t life[4] = {0};
        if (told[i].kind == MUX_EV_LOST)
            memcpy(life, mux_loop_arena(loop) + told[i].data, sizeof life);
        told_first[i] = life[2];
        told_answered[i] = life[3];
    }
    told_count += count;
    return count;
}

static inline void settle(void)
{
    for (int i = 0; poll_once(mux_fault_clock) || script_is_busy(script); i++)
        CHECK(i < POLLS_MOST);
}

/* All that happens at this time; how many events there were since the last that was asked for. */
static inline int poll_now(void)
{
    settle();
    told_is_old = true;
    return told_count;
}

/* The next batch that is not empty, at this time. */
static inline int poll_batch(void)
{
    for (int i = 0; !poll_once(mux_fault_clock); i++)
        CHECK(i < POLLS_MOST);
    told_is_old = true;
    return told_count;
}

/* The next batch, or none until `deadline`. */
static inline int poll_until(int64_t deadline)
{
    while (!poll_once(deadline) && mux_fault_clock < deadline)
        ;
    told_is_old = true;
    return told_count;
}

/* All that happens while so much time passes. */
static inline int pass(int64_t time)
{
    for (int64_t until = mux_fault_clock + time; mux_fault_clock < until;)
        (void)poll_once(until);
    told_is_old = true;
    return told_count;
}

static inline void expect(int at, enum mux_event_kind kind, int32_t value)
{
    CHECK(at < told_count);
    CHECK_EQUAL(told[at].kind, kind);
    CHECK_EQUAL(told[at].value, value);
}

static inline bool got(int handle, const char *bytes)
{
    size_t size;
    settle();
    const char *out = script_got(script, handle, &size);
    return size == strlen(bytes) && !memcmp(out, bytes, size);
}

static inline bool released(int handle)
{
    settle();
    return script_released(script, handle);
}

static inline bool ended(int handle)
{
    settle();
    return script_ended(script, handle);
}

/* Send, and see how much stays queued. Where nothing is taken at once, the end of the queue is told: that the
 * memory backend has no such event is not what is tested. */
static inline int64_t wrote(const char *bytes, size_t size)
{
    CHECK(mux_send(loop, slot, generation, bytes, size) >= 0);
    settle();
    if (script_is_late && told_count && told[told_count - 1].kind == MUX_EV_DRAINED)
        told_count--;
    return mux_queued(loop, slot, generation);
}

static inline int adopted(int verb, int seen)
{
    int handle = script_peer(script);
    int64_t made = mux_adopt(loop, handle, verb, seen, &generation);
    CHECK(made >= 0);
    slot = (uint32_t)made;
    return handle;
}

#endif
