/* When messages are due, which connection is next, and how large a message is. */
#define _GNU_SOURCE /* clock_gettime */
#include "load_internal.h"

#include <time.h>

uint64_t mux_load_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int mux_load_may_issue(const mux_load *load, uint64_t due)
{
    if (mux_load_is_spent(load))
        return 0;
    if (load->phase == MUX_LOAD_MEASURING)
        return 1;
    if (load->phase == MUX_LOAD_WARMING)
        return load->warmup > 0;
    return load->phase == MUX_LOAD_DRAINING && mux_load_is_open_loop(load) &&
           due < load->window_end && !load->late;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators" (2016). */
uint64_t mux_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

static double unit(uint64_t *state)
{
    return ((double)(mux_random(state) >> 11) + 0.5) * 0x1p-53;
}

/* An exponential variate of mean 1, from comparisons alone, so that no libm is needed: von Neumann,
 * "Various techniques used in connection with random digits" (1951). */
static double exponential(uint64_t *state)
{
    for (double whole = 0;; whole += 1) {
        double first = unit(state), smallest = first;
        int length = 1;
        for (double next; (next = unit(state)) < smallest; smallest = next)
            length++;
        if (length & 1)
            return whole + first;
    }
}

/* Nanoseconds between two messages of one connection, on average. */
static double interval(const mux_load *load)
{
    return 1e9 * (double)load->config.connections / load->config.rate;
}

static void next_due(mux_load *load, mux_load_conn *conn)
{
    if (load->config.poisson) {
        /* Independent Poisson streams add up to one of the whole rate. */
        conn->due += (uint64_t)(exponential(&conn->random) * interval(load));
        return;
    }
    double phase = (double)conn->index / (double)load->config.connections;
    conn->due = load->started + (uint64_t)(((double)conn->turn + phase) * interval(load));
    conn->turn++;
}

void mux_pace_start(mux_load *load, mux_load_conn *conn, uint64_t from)
{
    conn->turn = 0;
    conn->due = from;
    next_due(load, conn);
}

void mux_pace_advance(mux_load *load, mux_load_conn *conn)
{
    next_due(load, conn);
}

uint32_t mux_pace_size(mux_load *load, mux_load_conn *conn)
{
    int i = 0;
    if (load->config.request_len)
        return (uint32_t)load->config.request_len;
    if (load->config.mix_len > 1) {
        double share = unit(&conn->random);
        while (i < load->config.mix_len - 1 && share >= load->config.mix_upto[i])
            i++;
    }
    return (uint32_t)load->config.mix_size[i];
}

static void put(mux_load *load, uint32_t place, mux_load_conn *conn)
{
    load->heap[place] = conn;
    conn->place = (int)place;
}

static void sift_up(mux_load *load, uint32_t place, mux_load_conn *conn)
{
    while (place > 0) {
        uint32_t above = (place - 1) / 2;
        if (load->heap[above]->due <= conn->due)
            break;
        put(load, place, load->heap[above]);
        place = above;
    }
    put(load, place, conn);
}

void mux_heap_push(mux_load *load, mux_load_conn *conn)
{
    if (conn->place >= 0)
        return;
    sift_up(load, load->heap_len++, conn);
}

void mux_heap_remove(mux_load *load, mux_load_conn *conn)
{
    if (conn->place < 0)
        return;
    uint32_t place = (uint32_t)conn->place;
    conn->place = -1;
    mux_load_conn *last = load->heap[--load->heap_len];
    if (last == conn)
        return;
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= load->heap_len)
            break;
        if (child + 1 < load->heap_len && load->heap[child + 1]->due < load->heap[child]->due)
            child++;
        if (load->heap[child]->due >= last->due)
            break;
        put(load, place, load->heap[child]);
        place = child;
    }
    sift_up(load, place, last);
}
