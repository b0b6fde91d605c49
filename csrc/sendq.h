/* The bytes of one connection that the kernel has not taken yet: a list of chunks.
 *
 * Invariants:
 * - `size` is the sum of what the chunks hold; a queue of size 0 owns no chunk.
 * - Chunks of the standard size come from a pool and go back to it; a larger append gets one of its own.
 * - The bytes that mux_sendq_parts names stay where they are until mux_sendq_sent or _clear.
 */
#ifndef MUX_SENDQ_H
#define MUX_SENDQ_H

#include <stddef.h>
#include <sys/uio.h>

typedef struct mux_chunk mux_chunk;

typedef struct mux_sendq {
    mux_chunk *first, *last;
    size_t size;
} mux_sendq;

typedef struct mux_pool {
    mux_chunk *free;
    unsigned count;
} mux_pool;

int mux_sendq_append(mux_sendq *queue, mux_pool *pool, const void *data, size_t size); /* 0, -ENOMEM */
int mux_sendq_parts(const mux_sendq *queue, struct iovec *parts, int most); /* how many were set */
void mux_sendq_sent(mux_sendq *queue, mux_pool *pool, size_t size);
void mux_sendq_clear(mux_sendq *queue, mux_pool *pool);
void mux_pool_close(mux_pool *pool);

#endif
