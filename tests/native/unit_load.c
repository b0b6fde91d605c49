/* The load generator: what it counts, when messages are due, and a run against an echo of the core's own.
 *
 * What it makes of servers that are wrong, late or gone is told in tests/load, in Python, which
 * sanitize.sh runs as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "load_internal.h"
#include "loop.h"
#include "syscalls.h"

#define MS 1000000ULL
#define DRAWS 100000

static mux_hist hist;

static uint32_t bucket(uint64_t value)
{
    mux_hist_reset(&hist);
    mux_hist_add(&hist, value);
    uint32_t found = 0;
    while (!hist.count[found])
        found++;
    CHECK_EQUAL(hist.max, value);
    return found;
}

TEST(a_bucket_is_at_most_a_128th_of_its_times_wide)
{
    for (uint64_t value = 1; value < 1ULL << MUX_HIST_TOP; value += value / 37 + 1) {
        uint32_t index = bucket(value);
        uint32_t octave = index < 256 ? 0 : (index >> MUX_HIST_BITS) - 1;
        uint64_t low = (uint64_t)(index - (octave << MUX_HIST_BITS)) << octave;
        CHECK(low <= value && value - low < 1ULL << octave);
        CHECK(octave == 0 || (1ULL << octave) <= low / 128);
        CHECK_EQUAL(bucket(low), index);
        CHECK_EQUAL(bucket(low + (1ULL << octave)), index + 1 < MUX_HIST_BUCKETS ? index + 1 : index);
    }
}

TEST(times_beyond_the_top_share_the_last_bucket)
{
    CHECK_EQUAL(bucket(0), 0);
    CHECK_EQUAL(bucket((1ULL << MUX_HIST_TOP) - 1), MUX_HIST_BUCKETS - 1);
    CHECK_EQUAL(bucket(1ULL << MUX_HIST_TOP), MUX_HIST_BUCKETS - 1);
    CHECK_EQUAL(bucket(UINT64_MAX), MUX_HIST_BUCKETS - 1);
}

static mux_load *made(mux_load_config config)
{
    const char *failed;
    if (!config.host)
        config.host = "127.0.0.1";
    config.seed = 7;
    config.connect_timeout = config.reply_timeout = 20;
    mux_load *load = mux_load_new(&config, &failed);
    CHECK(load);
    return load;
}

TEST(at_a_fixed_rate_the_messages_of_all_connections_are_evenly_due)
{
    mux_load *load = made((mux_load_config){.connections = 4, .depth = 1, .mix_len = 1,
                                            .mix_size = {1}, .rate = 1000});
    load->started = 5 * MS;
    for (uint32_t i = 0; i < 4; i++) {
        mux_pace_start(load, &load->conns[i], load->started);
        mux_heap_push(load, &load->conns[i]);
    }
    for (uint64_t message = 0; message < 400; message++) {
        mux_load_conn *next = load->heap[0];
        CHECK_EQUAL(next->index, message % 4);
        CHECK_EQUAL(next->due, 5 * MS + message * MS);
        mux_heap_remove(load, next);
        mux_pace_advance(load, next);
        mux_heap_push(load, next);
    }
    mux_load_free(load);
}

TEST(random_arrivals_have_the_rate_and_the_spread_of_poissons)
{
    mux_load *load = made((mux_load_config){.connections = 2, .depth = 1, .mix_len = 1,
                                            .mix_size = {1}, .rate = 2000, .poisson = 1});
    mux_load_conn *conn = &load->conns[0];
    double sum = 0, squares = 0;
    mux_pace_start(load, conn, 0);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t before = conn->due;
        mux_pace_advance(load, conn);
        double wait = (double)(conn->due - before) / 1e6; /* ms; the mean is 1 */
        sum += wait;
        squares += wait * wait;
    }
    double mean = sum / DRAWS, variance = squares / DRAWS - mean * mean;
    CHECK(mean > 0.98 && mean < 1.02); /* six standard errors; the seed is fixed besides */
    CHECK(variance > 0.95 && variance < 1.05);
    mux_load_free(load);
}

TEST(sizes_are_drawn_by_their_shares)
{
    mux_load *load = made((mux_load_config){.connections = 1, .depth = 1, .mix_len = 3,
                                            .mix_size = {1, 300, 70000},
                                            .mix_upto = {0.5, 0.8, 1}});
    int small = 0, large = 0;
    for (int i = 0; i < DRAWS; i++) {
        uint32_t size = mux_pace_size(load, &load->conns[0]);
        CHECK(size == 1 || size == 300 || size == 70000);
        small += size == 1;
        large += size == 70000;
    }
    CHECK(small > 49000 && small < 51000 && large > 19000 && large < 21000);
    mux_load_free(load);
}

TEST(the_heap_brings_the_earliest_first_whoever_leaves_it)
{
    enum { MANY = 500 };
    mux_load *load = made((mux_load_config){.connections = MANY, .depth = 1, .mix_len = 1,
                                            .mix_size = {1}, .rate = 1});
    uint64_t state = 11;
    for (int round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            load->conns[i].due = mux_random(&state) % 1000;
            mux_heap_push(load, &load->conns[i]);
            mux_heap_push(load, &load->conns[i]); /* it is there already */
        }
        uint32_t left = MANY;
        for (uint32_t i = (uint32_t)round; i < MANY; i += 3, left--) {
            mux_heap_remove(load, &load->conns[i]);
            mux_heap_remove(load, &load->conns[i]); /* it has gone already */
        }
        CHECK_EQUAL(load->heap_len, left);
        for (uint64_t last = 0; load->heap_len; left--) {
            mux_load_conn *first = load->heap[0];
            CHECK(first->due >= last && first->place == 0);
            last = first->due;
            mux_heap_remove(load, first);
            CHECK_EQUAL(first->place, -1);
        }
        CHECK_EQUAL(left, 0);
    }
    mux_load_free(load);
}

/* An echo, served by the core in a thread of its own. */
static struct {
    mux_loop *loop;
    mux_stats stats;
    pthread_t thread;
    int listener, wake[2], port;
    int over; /* set by the tests' thread, read by the loop's */
} echo;

static void *serve(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&echo.over, __ATOMIC_ACQUIRE))
        CHECK_EQUAL(mux_loop_poll(echo.loop, mux_sys_now() + 1000 * (int64_t)MS), 0);
    return NULL;
}

static void begin_echo(void)
{
    const char *failed;
    int error;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    memset(&echo, 0, sizeof echo);
    echo.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(!bind(echo.listener, (struct sockaddr *)&address, size) && !listen(echo.listener, 64));
    CHECK(!getsockname(echo.listener, (struct sockaddr *)&address, &size));
    echo.port = ntohs(address.sin_port);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, echo.wake));
    mux_options options = {.connections = 1000, .read_chunk = 65536, .high = 65536, .low = 16384,
                           .accept_pause = 1000000, .reads = 4, .accepts = 64,
                           .wake = echo.wake[0], .stats = &echo.stats};
    echo.loop = mux_loop_new(&options, &failed, &error);
    CHECK(echo.loop && mux_listen(echo.loop, echo.listener, MUX_VERB_ECHO, 0) >= 0);
    CHECK(!pthread_create(&echo.thread, NULL, serve, NULL));
}

static void end_echo(void)
{
    __atomic_store_n(&echo.over, 1, __ATOMIC_RELEASE);
    CHECK_EQUAL(send(echo.wake[1], "", 1, MSG_NOSIGNAL), 1);
    CHECK(!pthread_join(echo.thread, NULL));
    mux_loop_free(echo.loop);
    close(echo.listener);
    close(echo.wake[0]);
    close(echo.wake[1]);
}

/* Two windows with the same connections: every message came back, in each of them. */
static void drive(mux_load_config config)
{
    begin_echo();
    config.port = echo.port;
    mux_load *load = made(config);
    const mux_load_totals *totals = mux_load_result(load);
    for (int window = 0; window < 2; window++) {
        mux_load_begin(load, 5 * MS, 50 * MS);
        for (int phase = MUX_LOAD_CONNECTING; phase != MUX_LOAD_IDLE;) {
            phase = mux_load_run(load, 20 * MS);
            CHECK(phase >= 0);
        }
        uint64_t counted = 0;
        for (int i = 0; i < MUX_HIST_BUCKETS; i++)
            counted += mux_load_latency(load)->count[i];
        CHECK(totals->sent > 0 && totals->bytes_in > 0);
        CHECK_EQUAL(totals->answered, totals->sent);
        CHECK_EQUAL(counted, totals->answered + totals->overdue);
        CHECK_EQUAL(totals->lost, 0);
        for (int kind = 0; kind < MUX_LOAD_ERRORS; kind++)
            CHECK_EQUAL(totals->errors[kind], 0);
        if (config.workload == MUX_LOAD_ECHO)
            CHECK_EQUAL(totals->open, (uint64_t)(config.connections + config.idle));
        else
            CHECK(totals->opened > (uint64_t)config.connections);
    }
    mux_load_free(load);
    end_echo();
}

TEST(a_closed_loop_gets_every_byte_back_from_an_echo)
{
    drive((mux_load_config){.connections = 5, .idle = 3, .depth = 7, .mix_len = 3,
                            .mix_size = {1, 300, 70000}, .mix_upto = {0.5, 0.8, 1}});
}

TEST(an_open_loop_gets_every_byte_back_from_an_echo)
{
    drive((mux_load_config){.connections = 3, .depth = 2, .mix_len = 1, .mix_size = {64},
                            .rate = 2000, .poisson = 1});
}

TEST(a_request_gets_its_reply_from_an_echo)
{
    const unsigned char *hello = (const unsigned char *)"hello";
    drive((mux_load_config){.connections = 2, .depth = 3, .request = hello, .reply = hello,
                            .request_len = 5, .reply_len = 5});
}

TEST(connections_that_come_and_go_get_every_byte_back_from_an_echo)
{
    drive((mux_load_config){.workload = MUX_LOAD_CHURN, .connections = 4, .depth = 1, .mix_len = 1,
                            .mix_size = {100}});
}

TEST(an_address_that_is_none_is_refused_with_the_name_of_the_call)
{
    const char *failed;
    char beyond[300];
    memset(beyond, 'x', sizeof beyond - 1);
    beyond[sizeof beyond - 1] = 0;
    mux_load_config config = {.host = "nonsense", .connections = 1, .depth = 1, .mix_len = 1};
    CHECK(!mux_load_new(&config, &failed) && !strcmp(failed, "address"));
    config.host = beyond;
    config.port = -1; /* a unix socket */
    CHECK(!mux_load_new(&config, &failed) && !strcmp(failed, "address"));
}
