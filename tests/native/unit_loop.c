/* The loop on the scripted backend: what a connection lives through, event by event. */
#include <errno.h>

#include "check.h"
#include "memory_backend.h"
#include "syscalls.h"

#define SECOND 1000000000LL

static mux_stats stats;
static mux_loop *loop;
static memory_backend *memory;
static uint32_t slot, generation; /* of the connection that was adopted last */

static mux_options usual(void)
{
    memset(&stats, 0, sizeof stats);
    mux_fault_clock = SECOND;
    mux_options options = {.connections = 100, .read_chunk = 4096, .high = 1000, .low = 100,
                           .accept_pause = SECOND / 10, .reads = 16, .accepts = 64, .wake = -1,
                           .stats = &stats};
    return options;
}

static void begin(mux_options options)
{
    loop = mux_loop_bare(&options);
    CHECK(loop);
    memory = memory_open(loop);
}

static void end(void)
{
    mux_loop_free(loop);
}

static int poll_now(void)
{
    return mux_loop_poll(loop, mux_fault_clock);
}

static void expect(int at, enum mux_event_kind kind, int32_t value)
{
    CHECK_EQUAL(mux_loop_events(loop)[at].kind, kind);
    CHECK_EQUAL(mux_loop_events(loop)[at].value, value);
}

static bool got(int handle, const char *bytes)
{
    size_t size;
    const char *out = memory_got(memory, handle, &size);
    return size == strlen(bytes) && !memcmp(out, bytes, size);
}

static int adopted(int verb, int seen)
{
    int handle = memory_peer(memory);
    int64_t made = mux_adopt(loop, handle, verb, seen, &generation);
    CHECK(made >= 0);
    slot = (uint32_t)made;
    return handle;
}

TEST(bytes_come_as_one_event_and_go_without_one)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_arrive(memory, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 5);
    CHECK(!memcmp(mux_loop_arena(loop) + mux_loop_events(loop)[0].data, "hello", 5));
    CHECK_EQUAL(mux_send(loop, slot, generation, "HELLO", 5), 0);
    CHECK(got(peer, "HELLO"));
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(a_connection_has_one_data_event_a_batch)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    static char many[10000];
    memory_arrive(memory, peer, many, sizeof many);
    for (int left = sizeof many; left > 0; left -= 4096) {
        CHECK_EQUAL(poll_now(), 1);
        expect(0, MUX_EV_DATA, left < 4096 ? left : 4096);
    }
    end();
}

TEST(eof_comes_after_the_data)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_arrive(memory, peer, "bye", 3);
    memory_end(memory, peer);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 3);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_EOF, 0);
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(a_held_connection_brings_nothing_until_it_is_let_go)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    memory_arrive(memory, peer, "later", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 0), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 5);
    end();
}

TEST(what_a_short_write_left_is_sent_in_order_and_told_at_low_water)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    static char many[3000];
    memory_window(memory, peer, 500);
    CHECK_EQUAL(mux_send(loop, slot, generation, many, sizeof many), 2500);
    CHECK_EQUAL(mux_send(loop, slot, generation, "end", 3), 2503);
    memory_window(memory, peer, 2410);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DRAINED, 93);
    memory_window(memory, peer, 1000);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DRAINED, 0);
    size_t size;
    const char *out = memory_got(memory, peer, &size);
    CHECK_EQUAL(size, 3003);
    CHECK(!memcmp(out + 3000, "end", 3));
    end();
}

TEST(close_waits_for_the_queue_and_abort_does_not)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 0);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 5);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    memory_window(memory, peer, 100);
    CHECK_EQUAL(poll_now(), 2);
    expect(0, MUX_EV_DRAINED, 0);
    expect(1, MUX_EV_LOST, 0);
    CHECK(got(peer, "hello"));
    CHECK(!memory_released(memory, peer));
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(memory_released(memory, peer));

    peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 0);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 5);
    CHECK_EQUAL(mux_abort(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0);
    CHECK(got(peer, ""));
    end();
}

TEST(a_released_name_is_stale_whatever_is_asked_of_it)
{
    begin(usual());
    adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_release(loop, slot, generation), -EINVAL); /* it lives */
    CHECK_EQUAL(mux_abort(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    uint32_t old = slot, before = generation;
    int next = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(slot, old); /* the slot is used again, under another generation */
    uint64_t in_out[2];
    CHECK_EQUAL(mux_send(loop, old, before, "x", 1), -ESTALE);
    CHECK_EQUAL(mux_queued(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_marks(loop, old, before, 1, 1), -ESTALE);
    CHECK_EQUAL(mux_hold(loop, old, before, 1), -ESTALE);
    CHECK_EQUAL(mux_write_eof(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_close(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_abort(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_refuse(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_verb(loop, old, before, MUX_VERB_ECHO, NULL, 0), -ESTALE);
    CHECK_EQUAL(mux_bytes(loop, old, before, in_out), -ESTALE);
    CHECK_EQUAL(mux_handle(loop, old, before), -1);
    CHECK_EQUAL(mux_release(loop, old, before), -ESTALE);
    CHECK(got(next, "") && !memory_ended(memory, next));
    end();
}

TEST(write_eof_follows_what_was_written)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 2);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 3);
    CHECK_EQUAL(mux_write_eof(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!memory_ended(memory, peer));
    memory_window(memory, peer, 100);
    CHECK_EQUAL(poll_now(), 1);
    CHECK(memory_ended(memory, peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(an_unseen_echo_lives_and_ends_without_an_event)
{
    begin(usual());
    int listener = memory_listener(memory);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    int peer = memory_connect(memory, listener);
    CHECK_EQUAL(poll_now(), 0);
    memory_arrive(memory, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(peer, "hello"));
    memory_end(memory, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(memory_released(memory, peer));
    CHECK_EQUAL(stats.open, 0);
    CHECK_EQUAL(stats.total, 1);
    CHECK_EQUAL(stats.bytes_in, 5);
    CHECK_EQUAL(stats.bytes_out, 5);
    end();
}

TEST(an_echo_stops_reading_above_high_water_and_loses_nothing)
{
    begin(usual());
    int peer = adopted(MUX_VERB_ECHO, 0);
    static char many[20000];
    for (size_t i = 0; i < sizeof many; i++)
        many[i] = (char)(i * 7 % 251);
    memory_window(memory, peer, 0);
    memory_arrive(memory, peer, many, sizeof many);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.bytes_in, 4096); /* one receive, which is above the mark of 1,000 */
    for (int i = 0; i < 40; i++) {
        memory_window(memory, peer, 3000);
        CHECK_EQUAL(poll_now(), 0);
    }
    size_t size;
    const char *out = memory_got(memory, peer, &size);
    CHECK_EQUAL(size, sizeof many);
    CHECK(!memcmp(out, many, size));
    end();
}

TEST(an_echo_answers_eof_only_once_all_is_sent_back)
{
    begin(usual());
    int peer = adopted(MUX_VERB_ECHO, 0);
    memory_window(memory, peer, 2);
    memory_arrive(memory, peer, "hello", 5);
    memory_end(memory, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!memory_released(memory, peer));
    memory_window(memory, peer, 100);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(memory_released(memory, peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(a_verb_takes_along_what_was_received_and_lifts_the_hold)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    memory_arrive(memory, peer, " world", 6);
    CHECK_EQUAL(mux_verb(loop, slot, generation, MUX_VERB_ECHO, "hello", 5), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(peer, "hello world"));
    memory_end(memory, peer);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0); /* of a seen connection the end is told */
    end();
}

TEST(discard_counts_and_drops)
{
    begin(usual());
    int peer = adopted(MUX_VERB_DISCARD, 0);
    memory_arrive(memory, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.bytes_in, 5);
    CHECK(got(peer, ""));
    memory_end(memory, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(memory_released(memory, peer));
    end();
}

TEST(a_reset_is_told_with_its_errno_or_counted)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_break(memory, peer, ECONNRESET);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ECONNRESET);
    int unseen = adopted(MUX_VERB_ECHO, 0);
    memory_break(memory, unseen, ECONNRESET);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.errors[ECONNRESET], 1);
    CHECK(memory_released(memory, unseen));
    end();
}

TEST(an_idle_connection_is_ended_and_one_that_moves_is_not)
{
    mux_options options = usual();
    options.idle = SECOND;
    begin(options);
    int quiet = adopted(MUX_VERB_ECHO, 0);
    int busy = adopted(MUX_VERB_ECHO, 0);
    for (int i = 0; i < 30; i++) {
        memory_arrive(memory, busy, "x", 1);
        CHECK_EQUAL(mux_loop_poll(loop, mux_fault_clock + SECOND / 10), 0);
    }
    CHECK(memory_released(memory, quiet));
    CHECK(!memory_released(memory, busy));
    CHECK_EQUAL(stats.idle, 1);
    end();
}

TEST(a_listener_rests_at_the_cap_until_a_connection_ends)
{
    mux_options options = usual();
    options.connections = 2;
    begin(options);
    int listener = memory_listener(memory);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    int first = memory_connect(memory, listener);
    memory_connect(memory, listener);
    memory_connect(memory, listener);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 2);
    CHECK_EQUAL(memory_attempts(memory, listener), 2);
    memory_end(memory, first);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 2);
    CHECK_EQUAL(stats.total, 3);
    end();
}

TEST(a_listener_without_descriptors_tries_ten_times_a_second_and_tells_once)
{
    begin(usual());
    int listener = memory_listener(memory);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    memory_connect(memory, listener);
    memory_refuse(memory, listener, EMFILE);
    int told = 0;
    for (int64_t until = mux_fault_clock + SECOND; mux_fault_clock < until;)
        told += mux_loop_poll(loop, until);
    CHECK_EQUAL(told, 1);
    CHECK(memory_attempts(memory, listener) >= 9 && memory_attempts(memory, listener) <= 11);
    memory_refuse(memory, listener, 0);
    CHECK_EQUAL(mux_loop_poll(loop, mux_fault_clock + SECOND / 5), 0);
    CHECK_EQUAL(stats.open, 1);
    end();
}

TEST(a_connection_aborted_before_accept_is_skipped_without_a_rest)
{
    begin(usual());
    int listener = memory_listener(memory);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    memory_refuse(memory, listener, ECONNABORTED);
    CHECK_EQUAL(poll_now(), 0);
    memory_refuse(memory, listener, 0);
    memory_connect(memory, listener);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 1);
    CHECK_EQUAL(stats.accept_errors, 0);
    end();
}

TEST(an_accepted_connection_is_told_with_its_listener_and_the_peers_address)
{
    begin(usual());
    int listener = memory_listener(memory);
    int64_t at = mux_listen(loop, listener, MUX_VERB_NONE, 1);
    memory_connect(memory, listener);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_loop_events(loop)[0].kind, MUX_EV_ACCEPTED);
    struct mux_accepted accepted;
    const char *data = mux_loop_arena(loop) + mux_loop_events(loop)[0].data;
    memcpy(&accepted, data, sizeof accepted);
    CHECK_EQUAL(accepted.listener, at);
    CHECK_EQUAL(accepted.size, 4);
    CHECK(!memcmp(data + sizeof accepted, "peer", 4));
    end();
}

TEST(a_refused_connection_is_given_back_at_once_and_never_heard_of)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_arrive(memory, peer, "hello", 5);
    CHECK_EQUAL(mux_refuse(loop, slot, generation), 0);
    CHECK(memory_released(memory, peer));
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 0);
    end();
}

TEST(gathered_writes_reach_each_connection_in_order)
{
    begin(usual());
    int one = adopted(MUX_VERB_NONE, 1);
    uint32_t first = slot;
    int two = adopted(MUX_VERB_NONE, 1);
    uint32_t second = slot;
    memory_window(memory, two, 3);
    uint32_t slots[] = {first, first, second, first}, sizes[] = {1, 2, 6, 3}, left[8];
    CHECK_EQUAL(mux_send_batch(loop, "abbSECONDccc", slots, sizes, 4, left), 1);
    CHECK_EQUAL(left[0], second);
    CHECK_EQUAL(left[1], 3);
    CHECK(got(one, "abbccc"));
    CHECK(got(two, "SEC"));
    end();
}

TEST(a_full_batch_leaves_the_rest_for_the_next)
{
    mux_options options = usual();
    options.read_chunk = 65536;
    begin(options);
    static char many[60000];
    for (int i = 0; i < 20; i++)
        memory_arrive(memory, adopted(MUX_VERB_NONE, 1), many, sizeof many);
    uint64_t bytes = 0;
    int polls = 0;
    for (; bytes < 20 * sizeof many; polls++) {
        int count = poll_now();
        CHECK(count > 0);
        for (int i = 0; i < count; i++)
            bytes += (uint64_t)mux_loop_events(loop)[i].value;
    }
    CHECK_EQUAL(bytes, 20 * sizeof many);
    CHECK(polls >= 4); /* 1.2 MB through an arena of 256 KiB */
    end();
}

TEST(a_poll_keeps_its_deadline_and_returns_when_woken)
{
    begin(usual());
    int64_t until = mux_fault_clock + 5 * SECOND;
    CHECK_EQUAL(mux_loop_poll(loop, until), 0);
    CHECK(mux_fault_clock >= until);
    memory_wake(memory);
    int64_t before = mux_fault_clock;
    CHECK_EQUAL(mux_loop_poll(loop, before + 5 * SECOND), 0);
    CHECK_EQUAL(mux_fault_clock, before);
    end();
}

TEST(closing_what_python_does_not_see_lets_it_send_first)
{
    begin(usual());
    int peer = adopted(MUX_VERB_ECHO, 0);
    memory_window(memory, peer, 0);
    memory_arrive(memory, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_unsent(loop), 5);
    mux_close_unseen(loop, 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!memory_released(memory, peer));
    memory_window(memory, peer, 10);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(memory_released(memory, peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(no_memory_for_the_queue_ends_that_connection_alone)
{
    begin(usual());
    int other = adopted(MUX_VERB_ECHO, 0);
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 0);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, ENOMEM);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ENOMEM);
    memory_arrive(memory, other, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(other, "hello"));
    end();
}
