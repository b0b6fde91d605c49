/* What other threads may do while a loop polls: wake it, read its counters, ask for its end. For TSan. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "loop.h"
#include "syscalls.h"

#define WAKES 2000

static mux_stats stats;
static int wake[2];

static mux_loop *made(void)
{
    const char *failed;
    int error;
    memset(&stats, 0, sizeof stats);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wake));
    mux_options options = {.connections = 10, .read_chunk = 4096, .high = 8192, .low = 1024,
                           .accept_pause = 1000000, .reads = 4, .accepts = 4, .wake = wake[0],
                           .stats = &stats};
    mux_loop *loop = mux_loop_new(&options, &failed, &error);
    CHECK(loop);
    return loop;
}

static void *wake_and_read(void *unused)
{
    (void)unused;
    uint64_t seen = 0;
    for (int i = 0; i < WAKES; i++) {
        (void)send(wake[1], "", 1, MSG_NOSIGNAL);
        uint64_t returns = __atomic_load_n(&stats.returns, __ATOMIC_RELAXED);
        CHECK(returns >= seen);
        seen = returns;
    }
    return NULL;
}

TEST(any_thread_may_wake_the_loop_and_read_its_counters)
{
    mux_loop *loop = made();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(&threads[i], NULL, wake_and_read, NULL));
    for (int i = 0; i < 500; i++)
        CHECK_EQUAL(mux_loop_poll(loop, mux_sys_now() + 1000000), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    mux_loop_free(loop);
    close(wake[0]);
    close(wake[1]);
}

static void *free_it(void *loop)
{
    while (!__atomic_load_n(&stats.returns, __ATOMIC_RELAXED))
        ;
    mux_loop_free(loop);
    (void)send(wake[1], "", 1, MSG_NOSIGNAL);
    return NULL;
}

TEST(freeing_a_loop_that_polls_waits_for_the_end_of_the_poll)
{
    mux_loop *loop = made();
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, free_it, loop));
    CHECK(mux_loop_poll(loop, mux_sys_now() + 10000000000LL) < 0);
    pthread_join(thread, NULL);
    close(wake[0]);
    close(wake[1]);
}
