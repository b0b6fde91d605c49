/* A loop on the scripted backend, and what its tests say in one word. */
#ifndef SCRIPTED_H
#define SCRIPTED_H

#include <errno.h>

#include "check.h"
#include "memory_backend.h"
#include "syscalls.h"

#define SECOND 1000000000LL

static mux_stats stats;
static mux_loop *loop;
static memory_backend *memory;
static uint32_t slot, generation; /* of the connection that was adopted last */

static inline mux_options usual(void)
{
    memset(&stats, 0, sizeof stats);
    mux_fault_clock = SECOND;
    mux_options options = {.connections = 100, .read_chunk = 4096, .high = 1000, .low = 100,
                           .accept_pause = SECOND / 10, .reads = 16, .accepts = 64, .wake = -1,
                           .stats = &stats};
    return options;
}

static inline void begin(mux_options options)
{
    loop = mux_loop_bare(&options);
    CHECK(loop);
    memory = memory_open(loop);
}

static inline void end(void)
{
    mux_loop_free(loop);
}

static inline int poll_now(void)
{
    return mux_loop_poll(loop, mux_fault_clock);
}

static inline void expect(int at, enum mux_event_kind kind, int32_t value)
{
    CHECK_EQUAL(mux_loop_events(loop)[at].kind, kind);
    CHECK_EQUAL(mux_loop_events(loop)[at].value, value);
}

static inline bool got(int handle, const char *bytes)
{
    size_t size;
    const char *out = memory_got(memory, handle, &size);
    return size == strlen(bytes) && !memcmp(out, bytes, size);
}

/* Put a write behind others, in the form of gather.h; the size of all. */
static inline size_t gathered(char *data, size_t size, uint32_t to, const char *bytes)
{
    uint32_t head[] = {to, (uint32_t)strlen(bytes)};
    memcpy(data + size, head, sizeof head);
    memcpy(data + size + sizeof head, bytes, head[1]);
    return size + sizeof head + head[1];
}

static inline int adopted(int verb, int seen)
{
    int handle = memory_peer(memory);
    int64_t made = mux_adopt(loop, handle, verb, seen, &generation);
    CHECK(made >= 0);
    slot = (uint32_t)made;
    return handle;
}

#endif
