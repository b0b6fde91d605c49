#include "sendq.h"

#include <errno.h>
#include <string.h>

#include "syscalls.h"

/* With its header 16 KiB: a few typical messages, and a size that malloc serves from its lists. */
#define CHUNK (16384 - sizeof(mux_chunk))
#define POOLED 64 /* chunks kept for reuse: 1 MiB at most, enough for a burst of slow readers */

struct mux_chunk {
    mux_chunk *next;
    size_t start, end, capacity;
    char data[];
};

static mux_chunk *take(mux_pool *pool, size_t size)
{
    mux_chunk *chunk = pool->free;
    if (size <= CHUNK && chunk) {
        pool->free = chunk->next;
        pool->count--;
    } else {
        size_t capacity = size > CHUNK ? size : CHUNK;
        chunk = mux_sys_allocate(1, sizeof *chunk + capacity);
        if (!chunk)
            return NULL;
        chunk->capacity = capacity;
    }
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    return chunk;
}

static void give_back(mux_pool *pool, mux_chunk *chunk)
{
    if (chunk->capacity != CHUNK || pool->count == POOLED) {
        mux_sys_free(chunk);
        return;
    }
    chunk->next = pool->free;
    pool->free = chunk;
    pool->count++;
}

int mux_sendq_append(mux_sendq *queue, mux_pool *pool, const void *data, size_t size)
{
    const char *from = data;
    mux_chunk *last = queue->last;
    size_t room = last ? last->capacity - last->end : 0;
    size_t fits = size < room ? size : room;
    mux_chunk *more = NULL;
    if (fits < size) { /* before anything is copied: an append happens whole or not at all */
        more = take(pool, size - fits);
        if (!more)
            return -ENOMEM;
    }
    if (fits) {
        memcpy(last->data + last->end, from, fits);
        last->end += fits;
    }
    if (more) {
        memcpy(more->data, from + fits, size - fits);
        more->end = size - fits;
        if (last)
            last->next = more;
        else
            queue->first = more;
        queue->last = more;
    }
    queue->size += size;
    return 0;
}

int mux_sendq_parts(const mux_sendq *queue, struct iovec *parts, int most)
{
    int count = 0;
    for (mux_chunk *chunk = queue->first; chunk && count < most; chunk = chunk->next, count++) {
        parts[count].iov_base = chunk->data + chunk->start;
        parts[count].iov_len = chunk->end - chunk->start;
    }
    return count;
}

void mux_sendq_sent(mux_sendq *queue, mux_pool *pool, size_t size)
{
    queue->size -= size;
    while (queue->first) {
        mux_chunk *chunk = queue->first;
        size_t held = chunk->end - chunk->start;
        if (size < held) {
            chunk->start += size;
            return;
        }
        size -= held;
        queue->first = chunk->next;
        if (!queue->first)
            queue->last = NULL;
        give_back(pool, chunk);
    }
}

void mux_sendq_clear(mux_sendq *queue, mux_pool *pool)
{
    mux_sendq_sent(queue, pool, queue->size);
}

void mux_pool_close(mux_pool *pool)
{
    while (pool->free) {
        mux_chunk *chunk = pool->free;
        pool->free = chunk->next;
        mux_sys_free(chunk);
    }
    pool->count = 0;
}
