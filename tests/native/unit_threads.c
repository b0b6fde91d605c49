/* What other threads may do while a loop polls: wake it, read its counters, ask for its end. For TSan. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <errno.h>

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

static void *call_everything(void *with)
{
    mux_loop *loop = with;
    uint32_t generation;
    uint64_t in_out[2];
    while (!__atomic_load_n(&stats.returns, __ATOMIC_RELAXED))
        ;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQUAL(mux_send(loop, 0, 1, "x", 1), -EPERM);
        CHECK_EQUAL(mux_queued(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_marks(loop, 0, 1, 1, 1), -EPERM);
        CHECK_EQUAL(mux_hold(loop, 0, 1, 1), -EPERM);
        CHECK_EQUAL(mux_write_eof(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_close(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_abort(loop, 0, 1, 0), -EPERM);
        CHECK_EQUAL(mux_verb(loop, 0, 1, MUX_VERB_ECHO, NULL, 0), -EPERM);
        CHECK_EQUAL(mux_bytes(loop, 0, 1, in_out), -EPERM);
        CHECK_EQUAL(mux_handle(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_name(loop, 0, 1, in_out, sizeof in_out), -EPERM);
        CHECK_EQUAL(mux_refuse(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_release(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_forget(loop, 0, 1), -EPERM);
        CHECK_EQUAL(mux_relay(loop, 0, 1, 0, 1, NULL, 0, NULL, 0), -EPERM);
        CHECK_EQUAL(mux_relay_more(loop, 0, 1, NULL, 0), -EPERM);
        CHECK_EQUAL(mux_listen(loop, wake[0], MUX_VERB_ECHO, 0), -EPERM);
        CHECK_EQUAL(mux_unlisten(loop, 0), -EPERM);
        CHECK_EQUAL(mux_adopt(loop, wake[0], MUX_VERB_ECHO, 0, &generation), -EPERM);
        CHECK_EQUAL(mux_connect(loop, "", 2, &generation), -EPERM);
        CHECK_EQUAL(mux_loop_poll(loop, 0), -EPERM);
        CHECK_EQUAL(mux_loop_fd(loop), -EPERM);
        CHECK_EQUAL(mux_loop_due(loop), -EPERM);
    }
    (void)send(wake[1], "", 1, MSG_NOSIGNAL);
    return NULL;
}

TEST(another_thread_is_refused_whatever_it_calls)
{
    mux_loop *loop = made();
    int pair[2];
    uint32_t generation;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    CHECK_EQUAL(mux_adopt(loop, pair[0], MUX_VERB_NONE, 1, &generation), 0); /* before it polls: anybody */
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, call_everything, loop));
    CHECK_EQUAL(mux_loop_poll(loop, mux_sys_now() + 60000000000LL), 0);
    pthread_join(thread, NULL);
    CHECK_EQUAL(mux_send(loop, 0, generation, "x", 1), 0);
    mux_loop_free(loop);
    close(pair[1]);
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
