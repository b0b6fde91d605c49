/* The send queue: every byte once and in order, whatever the sizes. */
#include "check.h"
#include "sendq.h"
#include "syscalls.h"

static unsigned seed = 1;

static size_t some(size_t most)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % (most + 1);
}

TEST(every_byte_comes_out_once_and_in_order)
{
    mux_pool pool = {0};
    mux_sendq queue = {0};
    static unsigned char piece[60000];
    unsigned char in = 0, out = 0;
    size_t held = 0;
    for (int step = 0; step < 3000; step++) {
        size_t size = some(step % 7 ? 500 : sizeof piece);
        for (size_t i = 0; i < size; i++)
            piece[i] = in++;
        CHECK_EQUAL(mux_sendq_append(&queue, &pool, piece, size), 0);
        held += size;
        CHECK_EQUAL(queue.size, held);
        struct iovec parts[3];
        int count = mux_sendq_parts(&queue, parts, 3);
        size_t take = some(held < 40000 ? held : 40000), left = take;
        for (int i = 0; i < count && left; i++)
            for (size_t at = 0; at < parts[i].iov_len && left; at++, left--)
                CHECK_EQUAL(((unsigned char *)parts[i].iov_base)[at], out++);
        mux_sendq_sent(&queue, &pool, take - left);
        held -= take - left;
    }
    mux_sendq_clear(&queue, &pool);
    mux_pool_close(&pool);
}

TEST(an_empty_queue_owns_nothing)
{
    mux_pool pool = {0};
    mux_sendq queue = {0};
    CHECK_EQUAL(mux_sendq_append(&queue, &pool, "hello", 5), 0);
    CHECK(queue.first);
    mux_sendq_sent(&queue, &pool, 5);
    CHECK(!queue.first && !queue.last && !queue.size);
    mux_pool_close(&pool);
}

TEST(an_append_without_memory_changes_nothing)
{
    mux_pool pool = {0};
    mux_sendq queue = {0};
    static char large[40000];
    CHECK_EQUAL(mux_sendq_append(&queue, &pool, "hello", 5), 0);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, 12);
    CHECK(mux_sendq_append(&queue, &pool, large, sizeof large) < 0);
    CHECK_EQUAL(queue.size, 5);
    CHECK_EQUAL(mux_sendq_append(&queue, &pool, " world", 6), 0);
    struct iovec part;
    CHECK_EQUAL(mux_sendq_parts(&queue, &part, 1), 1);
    CHECK_EQUAL(part.iov_len, 11);
    CHECK(!memcmp(part.iov_base, "hello world", 11));
    mux_sendq_clear(&queue, &pool);
    mux_pool_close(&pool);
}

TEST(a_burst_leaves_at_most_a_mebibyte_in_the_pool)
{
    mux_pool pool = {0};
    static mux_sendq queues[500];
    for (int i = 0; i < 500; i++)
        CHECK_EQUAL(mux_sendq_append(&queues[i], &pool, "x", 1), 0);
    for (int i = 0; i < 500; i++)
        mux_sendq_clear(&queues[i], &pool);
    CHECK(pool.count > 0 && pool.count <= 64);
    mux_pool_close(&pool);
}
