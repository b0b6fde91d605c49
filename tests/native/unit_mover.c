/* Pairs that go to a mover, on real sockets: bytes, ends and asks between two threads. Also for TSan. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "loop.h"
#include "mover.h"
#include "syscalls.h"

#define PAIRS_MOST 200
#define STAY 1000000 /* ns */
#define FOREVER 60000 /* ms: longer than any machine stands still */

typedef struct side {
    int far; /* our end of the socket */
    uint32_t slot, generation;
} side;

static mux_stats stats, moved_stats;
static mux_loop *loop;
static mux_mover *mover;
static int wake[2], mover_wake[2];
static pthread_t thread;
static bool runs;
static side pairs[PAIRS_MOST][2];
static uint32_t lost; /* ends that were told */
static mux_event last;
static uint64_t life[4];

static mux_options with(mux_stats *counted, int wakes)
{
    memset(counted, 0, sizeof *counted);
    return (mux_options){.connections = 2 * PAIRS_MOST, .read_chunk = 4096, .high = 8192, .low = 1024,
                         .accept_pause = 1000000, .reads = 4, .accepts = 4, .wake = wakes, .stay = STAY, .stats = counted};
}

static void *run(void *unused)
{
    (void)unused;
    CHECK_EQUAL(mux_mover_run(mover), 0);
    return NULL;
}

static void start(void)
{
    CHECK(!pthread_create(&thread, NULL, run, NULL));
    runs = true;
}

static void begin(void)
{
    const char *failed;
    int error;
    lost = 0;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wake));
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, mover_wake));
    const mux_options own = with(&stats, wake[0]), its = with(&moved_stats, mover_wake[0]);
    loop = mux_loop_new(&own, &failed, &error);
    mover = mux_mover_new(&its, mover_wake[1], wake[1], &failed, &error);
    CHECK(loop && mover);
    mux_loop_give_to(loop, mover);
}

static void end(void)
{
    mux_mover_stop(mover);
    if (runs)
        pthread_join(thread, NULL);
    runs = false;
    mux_loop_free(loop);
    mux_mover_free(mover);
    for (int i = 0; i < 2; i++) {
        close(wake[i]);
        close(mover_wake[i]);
    }
}

static void adopt(side *pair)
{
    for (int i = 0; i < 2; i++) {
        int both[2];
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, both));
        pair[i].far = both[1];
        int64_t slot = mux_adopt(loop, both[0], MUX_VERB_NONE, 1, &pair[i].generation);
        CHECK(slot >= 0);
        pair[i].slot = (uint32_t)slot;
    }
}

/* How many of the two have an end that is told. */
static uint32_t relay(const side *pair, int seen_second)
{
    CHECK_EQUAL(mux_relay(loop, pair[0].slot, pair[0].generation, pair[1].slot, pair[1].generation, "to second",
                          9, "to first", 8), 0);
    /* -EBUSY: the last batch had an event of the slot, in the life before */
    return seen_second || mux_forget(loop, pair[1].slot, pair[1].generation) ? 2 : 1;
}

static uint32_t join(side *pair, int seen_second)
{
    adopt(pair);
    return relay(pair, seen_second);
}

/* Of the slot's latest life. */
static uint32_t generation_of(uint32_t slot)
{
    uint32_t found = 0;
    for (int i = 0; i < PAIRS_MOST; i++)
        for (int k = 0; k < 2; k++)
            if (pairs[i][k].slot == slot && pairs[i][k].generation > found)
                found = pairs[i][k].generation;
    return found;
}

/* One poll, which hears of ends; at most `ms`. */
static void hear(int ms)
{
    int count = mux_loop_poll(loop, mux_sys_now() + ms * 1000000LL);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++) {
        last = mux_loop_events(loop)[i];
        CHECK_EQUAL(last.kind, MUX_EV_LOST);
        memcpy(life, mux_loop_arena(loop) + last.data, sizeof life);
        CHECK_EQUAL(mux_release(loop, last.slot, generation_of(last.slot)), 0);
        lost++;
    }
}

/* They leave: polls until what was joined has stayed for as long as it does. */
static void leave(void)
{
    const int64_t due = mux_sys_now() + STAY;
    int64_t now;
    do {
        now = mux_sys_now();
        hear(1);
    } while (now <= due);
}

static void hear_all(uint32_t wanted)
{
    while (lost < wanted)
        hear(FOREVER);
}

static void read_exactly(int fd, const char *wanted)
{
    size_t size = strlen(wanted), got = 0;
    char bytes[64];
    while (got < size) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        CHECK_EQUAL(poll(&ready, 1, FOREVER), 1);
        ssize_t more = recv(fd, bytes + got, size - got, 0);
        CHECK(more > 0);
        got += (size_t)more;
    }
    CHECK(!memcmp(bytes, wanted, size));
}

static void greeted(const side *pair)
{
    read_exactly(pair[0].far, "to first");
    read_exactly(pair[1].far, "to second");
}

static void read_end(int fd)
{
    char byte;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    CHECK_EQUAL(poll(&ready, 1, FOREVER), 1);
    CHECK(recv(fd, &byte, 1, 0) <= 0);
}

static void hang_up(side *pair)
{
    close(pair[0].far);
    close(pair[1].far);
    pair[0].generation = pair[1].generation = 0;
}

static void talk(const side *pair)
{
    CHECK_EQUAL(send(pair[0].far, "ping", 4, 0), 4);
    read_exactly(pair[1].far, "ping");
    CHECK_EQUAL(send(pair[1].far, "pong", 4, 0), 4);
    read_exactly(pair[0].far, "pong");
}

TEST(a_pair_goes_to_the_mover_and_its_end_comes_back)
{
    begin();
    start();
    (void)join(pairs[0], 0);
    leave();
    greeted(pairs[0]);
    for (int i = 0; i < 100; i++)
        talk(pairs[0]);
    uint64_t in_out[2];
    do /* a byte may be here before it is counted there */
        CHECK_EQUAL(mux_bytes(loop, pairs[0][0].slot, pairs[0][0].generation, in_out), 0);
    while (in_out[0] != 400 || in_out[1] != 408);
    CHECK_EQUAL(stats.open, 2);
    CHECK(!shutdown(pairs[0][0].far, SHUT_WR));
    read_end(pairs[0][1].far);
    CHECK(!shutdown(pairs[0][1].far, SHUT_WR));
    hear_all(1);
    CHECK_EQUAL(last.value, 0);
    CHECK_EQUAL(life[0], 400);
    CHECK_EQUAL(life[1], 408);
    CHECK(life[2]);
    CHECK(life[3]);
    hear(0);
    CHECK_EQUAL(stats.open, 0);
    hang_up(pairs[0]);
    end();
}

/* False: the machine stood still, and the pair left before its loop could hear. */
static bool has_heard_an_end(const side *heard_by)
{
    struct pollfd ready = {.fd = heard_by->far, .events = POLLIN};
    return poll(&ready, 1, 0) == 1;
}

TEST(who_has_ended_before_they_left_is_still_the_first)
{
    for (int first = 0; first < 2; first++) {
        bool heard = false;
        while (!heard) {
            begin();
            (void)join(pairs[0], 0);
            greeted(pairs[0]);
            CHECK(!shutdown(pairs[0][first].far, SHUT_WR));
            leave();
            heard = has_heard_an_end(&pairs[0][1 - first]);
            CHECK(!shutdown(pairs[0][1 - first].far, SHUT_WR));
            start(); /* it is told of both at once */
            hear_all(1);
            CHECK(!heard || (life[2] != 0) == (first == 0));
            hang_up(pairs[0]);
            end();
        }
    }
}

TEST(both_sides_hear_of_an_end_where_both_are_seen)
{
    begin();
    start();
    (void)join(pairs[0], 1);
    leave();
    greeted(pairs[0]);
    talk(pairs[0]);
    CHECK(!shutdown(pairs[0][1].far, SHUT_WR));
    read_end(pairs[0][0].far);
    CHECK(!shutdown(pairs[0][0].far, SHUT_WR));
    hear_all(2);
    hear(0);
    CHECK_EQUAL(stats.open, 0);
    hang_up(pairs[0]);
    end();
}

TEST(what_is_asked_before_the_mover_has_taken_a_pair_is_done_when_it_has)
{
    for (int how = 0; how < 3; how++) /* close, abort, abort with a reset */
        for (int seen_second = 0; seen_second < 2; seen_second++) {
            begin();
            (void)join(pairs[0], seen_second);
            leave(); /* nobody takes it yet */
            for (int i = 0; i <= seen_second; i++) {
                const uint32_t slot = pairs[0][i].slot, generation = pairs[0][i].generation;
                if (how == 0)
                    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
                else
                    CHECK_EQUAL(mux_abort(loop, slot, generation, how == 2), 0);
                CHECK_EQUAL(mux_close(loop, slot, generation), 0); /* once more is as good */
                CHECK_EQUAL(mux_queued(loop, slot, generation), 1);
            }
            start();
            hear_all(1 + (uint32_t)seen_second);
            CHECK_EQUAL(last.value, 0);
            greeted(pairs[0]);
            read_end(pairs[0][1].far);
            hang_up(pairs[0]);
            end();
            CHECK_EQUAL(stats.open, 0);
        }
}

TEST(a_pair_that_no_mover_takes_any_more_ends)
{
    begin();
    (void)join(pairs[0], 1);
    (void)join(pairs[1], 0);
    leave();
    mux_mover_stop(mover);
    start();
    hear_all(3);
    for (int i = 0; i < 2; i++) {
        greeted(pairs[i]);
        read_end(pairs[i][0].far);
        hang_up(pairs[i]);
    }
    end();
}

TEST(a_mover_that_is_stopped_ends_what_it_has)
{
    begin();
    start();
    (void)join(pairs[0], 0);
    leave();
    greeted(pairs[0]);
    mux_mover_stop(mover);
    hear_all(1);
    read_end(pairs[0][0].far);
    hang_up(pairs[0]);
    end();
}

TEST(what_the_kernel_had_not_taken_goes_along)
{
    static char many[400000], got[400000];
    begin();
    for (size_t i = 0; i < sizeof many; i++)
        many[i] = (char)(i % 251);
    (void)join(pairs[0], 0);
    leave(); /* the next pair has a queue */
    int both[2];
    uint32_t generation;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, both));
    int64_t first = mux_adopt(loop, both[0], MUX_VERB_NONE, 1, &generation);
    CHECK(first >= 0);
    CHECK(mux_send(loop, (uint32_t)first, generation, many, sizeof many) > 0);
    int others[2];
    uint32_t other_generation;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, others));
    int64_t second = mux_adopt(loop, others[0], MUX_VERB_NONE, 1, &other_generation);
    CHECK(second >= 0);
    CHECK_EQUAL(mux_relay(loop, (uint32_t)first, generation, (uint32_t)second, other_generation, "", 0, "", 0), 0);
    pairs[1][0] = (side){both[1], (uint32_t)first, generation};
    pairs[1][1] = (side){others[1], (uint32_t)second, other_generation};
    leave();
    start();
    for (size_t at = 0; at < sizeof got;) {
        struct pollfd ready = {.fd = both[1], .events = POLLIN};
        CHECK_EQUAL(poll(&ready, 1, FOREVER), 1);
        ssize_t more = recv(both[1], got + at, sizeof got - at, 0);
        CHECK(more > 0);
        at += (size_t)more;
    }
    CHECK(!memcmp(many, got, sizeof many));
    talk(pairs[1]);
    hang_up(pairs[0]);
    end();
    hang_up(pairs[1]);
}

TEST(what_cannot_be_attached_ends_and_what_cannot_be_sent_along_stays)
{
    for (int nth = 1; nth <= 2; nth++) {
        begin();
        (void)join(pairs[0], 0);
        leave();
        mux_fault(MUX_CALL_EPOLL_CTL, nth, 0, ENOSPC); /* epoll(7): max_user_watches */
        start();
        hear_all(1);
        CHECK_EQUAL(last.value, ENOSPC);
        for (int i = 0; i < 2; i++) {
            read_exactly(pairs[0][i].far, i ? "to second" : "to first");
            read_end(pairs[0][i].far);
        }
        hang_up(pairs[0]);
        end();
        CHECK_EQUAL(stats.open, 0);
        CHECK_EQUAL(moved_stats.open, 0);
    }
    for (int nth = 1; nth <= 2; nth++) { /* the list of those that were joined, and what goes along */
        begin();
        adopt(pairs[0]);
        mux_fault(MUX_CALL_ALLOCATE, nth, 0, ENOMEM);
        (void)relay(pairs[0], 0);
        leave();
        read_exactly(pairs[0][1].far, "to second");
        CHECK_EQUAL(send(pairs[0][0].far, "ping", 4, 0), 4);
        for (int i = 0; i < 2; i++)
            hear(1); /* here: no mover runs */
        read_exactly(pairs[0][1].far, "ping");
        hang_up(pairs[0]);
        end();
        mux_fault(MUX_CALL_ALLOCATE, 0, 0, 0);
    }
}

TEST(many_pairs_come_and_go_and_each_end_is_told_once)
{
    begin();
    start();
    for (int round = 0; round < 5; round++) {
        uint32_t wanted = 0;
        for (int i = 0; i < PAIRS_MOST; i++) {
            if (i % 7 == 0)
                hear(0);
            wanted += join(pairs[i], i % 3 == 0);
            if (i % 5 == 0)
                CHECK_EQUAL(mux_abort(loop, pairs[i][0].slot, pairs[i][0].generation, 0), 0);
        }
        leave();
        for (int i = 0; i < PAIRS_MOST; i++) {
            uint64_t in_out[2];
            (void)mux_bytes(loop, pairs[i][0].slot, pairs[i][0].generation, in_out);
            if (i % 5 == 1)
                (void)mux_close(loop, pairs[i][0].slot, pairs[i][0].generation);
            close(pairs[i][0].far);
            close(pairs[i][1].far);
        }
        hear_all(wanted);
        CHECK_EQUAL(lost, wanted);
        hear(0);
        CHECK_EQUAL(stats.open, 0);
        lost = 0;
        memset(pairs, 0, sizeof pairs);
    }
    end();
    CHECK_EQUAL(moved_stats.open, 0);
}

TEST(a_drain_wakes_the_giving_loop_when_the_last_is_gone)
{
    begin();
    start();
    (void)join(pairs[0], 0);
    leave();
    read_exactly(pairs[0][1].far, "to second");
    mux_mover_drain(mover);
    CHECK_EQUAL(mux_close(loop, pairs[0][0].slot, pairs[0][0].generation), 0);
    while (stats.open || __atomic_load_n(&moved_stats.open, __ATOMIC_RELAXED))
        hear(FOREVER);
    hang_up(pairs[0]);
    end();
}
