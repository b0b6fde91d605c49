/* What the simulated kernel says, call by call, beside the real one: sockets, epoll and their errors, without
 * the core. A run is drawn from a seed and printed; the two makes of world.h have to print the same. */
#include "calls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "syscalls.h"
#include "world.h"

#define PAIRS 4
#define CALLS 60
#define ACKNOWLEDGED_MS 500 /* Linux delays an acknowledgement by up to 200 ms */

static struct {
    int fd, end; /* -1: closed */
    bool watched, marked;
} pairs[PAIRS];

static int epoll;

static void say(const char *call, int pair, long long result)
{
    printf("%s %d: %lld\n", call, pair, result);
}

static int by_id(const void *one, const void *other)
{
    uint64_t a = ((const struct epoll_event *)one)->data.u64;
    uint64_t b = ((const struct epoll_event *)other)->data.u64;
    return a < b ? -1 : a > b;
}

static void look(void)
{
    struct epoll_event events[PAIRS * 2];
    printf("  the set is %s\n", world_readable(world_now()) ? "readable" : "quiet");
    int count = mux_sys_epoll_wait(epoll, events, PAIRS * 2, 0);
    qsort(events, count > 0 ? (size_t)count : 0, sizeof *events, by_id);
    for (int i = 0; i < count; i++)
        printf("  event of %llu: %x\n", (unsigned long long)events[i].data.u64, events[i].events);
}

static void ours(rng *from, int i)
{
    static const uint32_t wanted[] = {
        EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLET, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
        EPOLLIN | EPOLLRDHUP};
    static char buffer[3000];
    struct iovec part = {.iov_base = buffer, .iov_len = 1 + rng_below(from, 2000)};
    uint32_t events = wanted[rng_below(from, 6)];
    switch (rng_below(from, 12)) {
    case 0: case 1: case 2:
        say("recv", i, mux_sys_recv(pairs[i].fd, buffer, 1 + rng_below(from, 3000)));
        break;
    case 3:
        say("drop", i, mux_sys_drop(pairs[i].fd, buffer, 1 + rng_below(from, 3000)));
        break;
    case 4: case 5:
        say("send", i, mux_sys_send(pairs[i].fd, &part, 1));
        break;
    case 6:
        say("shutdown", i, mux_sys_shutdown_write(pairs[i].fd));
        world_settle();
        for (int tries = 0; tries < ACKNOWLEDGED_MS && mux_sys_unacknowledged(pairs[i].fd); tries++)
            world_pass(1000000); /* a FIN is acknowledged late, and that is an event */
        break;
    case 7:
        say("SO_ERROR", i, mux_sys_error(pairs[i].fd));
        break;
    case 8: case 9: case 10:
        say(pairs[i].watched ? "mod" : "add", i,
            mux_sys_epoll_ctl(epoll, pairs[i].watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, pairs[i].fd, events,
                              (uint64_t)i));
        pairs[i].watched = true;
        break;
    default:
        if (rng_below(from, 4))
            break;
        if (rng_below(from, 2))
            mux_sys_reset(pairs[i].fd);
        say("close", i, mux_sys_close(pairs[i].fd));
        pairs[i].fd = -1;
        break;
    }
}

static void theirs(rng *from, int i)
{
    static char buffer[3000];
    switch (rng_below(from, 9)) {
    case 0: case 1: case 2: case 3:
        say("their send", i, world_send(pairs[i].end, buffer, 1 + rng_below(from, 2000)));
        break;
    case 4: case 5:
        say("their recv", i, world_recv(pairs[i].end, buffer, 1 + rng_below(from, 3000)));
        break;
    case 6:
        if (rng_below(from, 3))
            break;
        world_shutdown(pairs[i].end);
        say("their shutdown", i, 0);
        break;
    default:
        if (rng_below(from, 6))
            break;
        if (rng_below(from, 2))
            world_reset(pairs[i].end);
        else
            world_hang_up(pairs[i].end);
        say("their close", i, 0);
        pairs[i].end = -1;
        break;
    }
}

void calls_run(uint64_t seed)
{
    const world_options options = {.send_room = 1 << 17, .receive_room = 1 << 17};
    rng from = {seed};
    world_begin(&options);
    world_quiet(true);
    epoll = mux_sys_epoll_create();
    world_watch(epoll);
    for (int i = 0; i < PAIRS; i++) {
        pairs[i].end = world_pair(&pairs[i].fd);
        world_give(pairs[i].fd, true);
        pairs[i].watched = false;
    }
    for (int call = 0; call < CALLS; call++) {
        int i = (int)rng_below(&from, PAIRS);
        if (rng_below(&from, 2) && pairs[i].fd >= 0)
            ours(&from, i);
        else if (pairs[i].end >= 0)
            theirs(&from, i);
        world_settle();
        look();
    }
    for (int i = 0; i < PAIRS; i++)
        if (pairs[i].fd >= 0)
            (void)mux_sys_close(pairs[i].fd);
    world_watch(-1);
    (void)mux_sys_close(epoll);
    world_end();
}
