/* Exact balance: whether a worker is ahead of others that accept from the same socket.
 *
 * muxcore/parts/balance.py is the same in Python. Counts are read as they are; no worker waits for another one but
 * by resting, and one that does not come, since a callback holds it up, is not waited for.
 */
#include "balance.h"

#include "loop.h"

#define PATIENCE 50    /* looks: then those with fewer clients are held up */
#define FIRST_GRANT 16 /* clients taken then, before they are waited for again; twice as many each time */
#define MOST_GRANTED 4096

void mux_loop_balance(mux_loop *loop, const char *cells, uint32_t count, uint32_t size)
{
    loop->balance.cells = cells;
    loop->balance.count = count;
    loop->balance.size = size;
}

static bool is_ahead(const mux_loop *loop)
{
    const struct mux_balance *balance = &loop->balance;
    for (uint32_t i = 0; i < balance->count; i++) {
        const mux_stats *other = (const mux_stats *)(const void *)(balance->cells + (size_t)i * balance->size);
        if (other != loop->stats && MUX_COUNTED(other->serving) && MUX_COUNTED(other->open) < loop->stats->open)
            return true;
    }
    return false;
}

bool mux_balance_may_accept(mux_loop *loop)
{
    struct mux_balance *balance = &loop->balance;
    if (!balance->cells)
        return true;
    if (!is_ahead(loop)) {
        balance->looks = balance->grant = balance->left = 0;
        return true;
    }
    if (balance->left) {
        balance->left--;
        return true;
    }
    /* A listener that has rested is heard of in the same turn, if the client still waits. */
    if (loop->stats->turns > balance->rested + 1)
        balance->looks = 0;
    if (++balance->looks <= PATIENCE)
        return false;
    balance->grant = balance->grant ? 2 * balance->grant : FIRST_GRANT;
    if (balance->grant > MOST_GRANTED)
        balance->grant = MOST_GRANTED;
    balance->looks = 0;
    balance->left = balance->grant - 1;
    return true;
}
