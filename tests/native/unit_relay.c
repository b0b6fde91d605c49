/* The loop on the scripted backends: connections that it opens, and pairs that it joins. */
#include "scripted.h"

static int left, right; /* the peers of a pair, and its slots */
static uint32_t left_slot, left_generation, right_slot, right_generation;

static void pair(int seen)
{
    left = adopted(MUX_VERB_NONE, seen);
    left_slot = slot;
    left_generation = generation;
    right = adopted(MUX_VERB_NONE, seen);
    right_slot = slot;
    right_generation = generation;
}

static int join(const char *to_right, const char *to_left)
{
    return mux_relay(loop, left_slot, left_generation, right_slot, right_generation, to_right,
                     strlen(to_right), to_left, strlen(to_left));
}

TEST(bytes_of_either_go_to_the_other_after_what_was_given_along)
{
    begin(usual());
    pair(1);
    CHECK_EQUAL(mux_hold(loop, left_slot, left_generation, 1), 0);
    script_arrive(script, left, "ping", 4);
    CHECK_EQUAL(mux_send(loop, left_slot, left_generation, "early ", 6), script_is_late ? 6 : 0);
    CHECK_EQUAL(join("hello ", "banner "), 0);
    script_arrive(script, right, "pong", 4);
    CHECK_EQUAL(poll_now(), 0); /* the hold is lifted, and no byte crosses */
    CHECK(got(right, "hello ping"));
    CHECK(got(left, "early banner pong"));
    CHECK_EQUAL(stats.bytes_in, 8);
    CHECK_EQUAL(stats.bytes_out, 6 + 6 + 7 + 8);
    end();
}

TEST(each_direction_ends_on_its_own_and_the_second_ends_both)
{
    begin(usual());
    pair(1);
    CHECK_EQUAL(join("", ""), 0);
    script_end(script, left);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(ended(right));
    CHECK(!ended(left));
    mux_fault_clock += 7000000;
    const uint64_t came = (uint64_t)mux_fault_clock / 100000;
    script_arrive(script, right, "late", 4);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(left, "late"));
    mux_fault_clock += 7000000;
    script_arrive(script, right, "r", 1);
    script_end(script, right);
    CHECK_EQUAL(poll_now(), 2);
    expect(0, MUX_EV_LOST, 0);
    expect(1, MUX_EV_LOST, 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(told_first[i], told[i].slot == left_slot);
        CHECK_EQUAL(told_answered[i], told[i].slot == left_slot ? (came | 1) : 0);
    }
    end();
}

TEST(the_tail_of_a_direction_is_sent_before_its_eof)
{
    begin(usual());
    pair(0);
    CHECK_EQUAL(join("", ""), 0);
    script_window(script, right, 2);
    script_arrive(script, left, "hello", 5);
    script_end(script, left);
    script_end(script, right);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!ended(right));
    CHECK(!released(left));
    script_window(script, right, 100);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(right, "hello"));
    CHECK(released(left) && released(right));
    CHECK(!script_reset(script, left) && !script_reset(script, right));
    CHECK_EQUAL(stats.open, 0);
    end();
}

TEST(a_slow_reader_holds_the_other_side_and_nothing_is_lost)
{
    begin(usual());
    pair(0);
    CHECK_EQUAL(join("", ""), 0);
    static char many[200000];
    for (size_t i = 0; i < sizeof many; i++)
        many[i] = (char)(i * 7 % 251);
    script_window(script, right, 0);
    script_arrive(script, left, many, 100000);
    CHECK_EQUAL(poll_now(), 0);
    script_arrive(script, left, many + 100000, 100000);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.bytes_in, 100000); /* one receive; the second waits */
    script_arrive(script, right, "hi", 2);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(left, "hi")); /* the other direction goes on */
    for (int i = 0; i < 100; i++) {
        script_window(script, right, 3000);
        CHECK_EQUAL(poll_now(), 0);
    }
    size_t size;
    const char *out = script_got(script, right, &size);
    CHECK_EQUAL(size, sizeof many);
    CHECK(!memcmp(out, many, size));
    end();
}

TEST(a_reset_passes_to_the_other_side)
{
    begin(usual());
    pair(1);
    CHECK_EQUAL(join("", ""), 0);
    script_break(script, right, ECONNRESET);
    CHECK_EQUAL(poll_now(), 2);
    expect(0, MUX_EV_LOST, ECONNRESET);
    expect(1, MUX_EV_LOST, ECONNRESET | MUX_PASSED_ON);
    CHECK_EQUAL(mux_release(loop, left_slot, left_generation), 0);
    CHECK(released(left) && script_reset(script, left));
    end();
}

TEST(close_of_one_side_sends_what_is_queued_for_either)
{
    begin(usual());
    pair(1);
    script_window(script, left, 0);
    script_window(script, right, 0);
    CHECK_EQUAL(join("to right", "to left"), 0);
    CHECK_EQUAL(mux_close(loop, left_slot, left_generation), 0);
    script_arrive(script, right, "too late", 8);
    CHECK_EQUAL(poll_now(), 0);
    script_window(script, left, 100);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0);
    script_window(script, right, 100);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0);
    CHECK(got(left, "to left"));
    CHECK(got(right, "to right"));
    end();
}

TEST(abort_of_one_side_ends_both_at_once)
{
    begin(usual());
    pair(1);
    script_window(script, right, 0);
    CHECK_EQUAL(join("never", ""), 0);
    CHECK_EQUAL(mux_close(loop, left_slot, left_generation), 0);
    CHECK_EQUAL(mux_abort(loop, left_slot, left_generation, 0), 0);
    CHECK_EQUAL(mux_abort(loop, right_slot, right_generation, 0), 0);
    CHECK_EQUAL(poll_now(), 2);
    CHECK(got(right, ""));
    end();
}

TEST(the_idle_deadline_is_the_pairs)
{
    mux_options options = usual();
    options.idle = SECOND;
    begin(options);
    pair(1);
    CHECK_EQUAL(join("", ""), 0);
    for (int i = 0; i < 5; i++) { /* only one direction moves: both stay */
        mux_fault_clock += SECOND / 2;
        script_arrive(script, left, "x", 1);
        CHECK_EQUAL(poll_now(), 0);
    }
    mux_fault_clock += 2 * SECOND;
    CHECK_EQUAL(poll_now(), 2);
    expect(0, MUX_EV_LOST, MUX_IDLE);
    expect(1, MUX_EV_LOST, MUX_IDLE);
    end();
}

TEST(after_the_first_eof_the_second_has_a_deadline)
{
    mux_options options = usual();
    options.half_close = SECOND;
    begin(options);
    pair(1);
    CHECK_EQUAL(join("", ""), 0);
    script_end(script, left);
    int64_t before = mux_fault_clock;
    CHECK_EQUAL(poll_until(INT64_MAX), 2);
    CHECK(mux_fault_clock - before >= SECOND && mux_fault_clock - before < SECOND + SECOND / 10);
    expect(0, MUX_EV_LOST, MUX_HALF_CLOSED);
    expect(1, MUX_EV_LOST, MUX_HALF_CLOSED);
    end();
}

TEST(what_ended_in_time_has_no_deadline_left)
{
    mux_options options = usual();
    options.half_close = SECOND;
    begin(options);
    for (int i = 0; i < 3; i++) {
        pair(0);
        CHECK_EQUAL(join("", ""), 0);
        script_end(script, i == 1 ? right : left);
        CHECK_EQUAL(poll_now(), 0);
    }
    script_break(script, right, ECONNRESET); /* of the last of three */
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 4);
    mux_fault_clock += 2 * SECOND;
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 0);
    CHECK_EQUAL(stats.half_closed, 4);
    end();
}

TEST(what_a_batch_had_before_the_join_goes_to_the_peer)
{
    begin(usual());
    pair(1);
    script_arrive(script, left, "same turn", 9);
    CHECK_EQUAL(poll_now(), 1);
    script_end(script, left);
    CHECK_EQUAL(join("", ""), 0);
    CHECK_EQUAL(mux_relay_more(loop, left_slot, left_generation, "same turn", 9), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(right, "same turn"));
    CHECK(ended(right));
    end();
}

TEST(an_eof_heard_before_the_join_is_passed_on_when_python_says_so)
{
    begin(usual());
    pair(1);
    script_end(script, left);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_EOF, 0);
    CHECK_EQUAL(join("last words", ""), 0);
    CHECK(!ended(right));
    CHECK_EQUAL(mux_relay_more(loop, left_slot, left_generation, "", 0), 0);
    CHECK(ended(right));
    CHECK(got(right, "last words"));
    end();
}

TEST(a_forgotten_side_ends_without_an_event)
{
    begin(usual());
    pair(1);
    CHECK_EQUAL(mux_forget(loop, right_slot, right_generation), -EBUSY); /* not joined */
    script_arrive(script, right, "x", 1);
    CHECK_EQUAL(poll_batch(), 1);
    CHECK_EQUAL(join("", ""), 0);
    CHECK_EQUAL(mux_forget(loop, right_slot, right_generation), -EBUSY); /* an event of it is out */
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_forget(loop, right_slot, right_generation), 0);
    script_end(script, left);
    script_end(script, right);
    CHECK_EQUAL(poll_now(), 1); /* of two: the left side's */
    CHECK_EQUAL(told[0].slot, left_slot);
    CHECK(released(right));
    end();
}

TEST(a_connection_is_forgotten_in_the_turn_that_connected_it)
{
    begin(usual());
    pair(1);
    int64_t made = mux_connect(loop, "where", 5, &right_generation);
    right_slot = (uint32_t)made;
    CHECK_EQUAL(poll_batch(), 1);
    expect(0, MUX_EV_CONNECTED, 0);
    CHECK_EQUAL(join("", ""), 0);
    CHECK_EQUAL(mux_forget(loop, right_slot, right_generation), 0);
    end();
}

TEST(only_two_open_connections_without_a_verb_are_joined)
{
    begin(usual());
    pair(1);
    CHECK_EQUAL(mux_relay(loop, left_slot, left_generation, left_slot, left_generation, "", 0, "", 0),
                -EINVAL);
    CHECK_EQUAL(join("", ""), 0);
    CHECK_EQUAL(join("", ""), -EINVAL);
    CHECK_EQUAL(mux_abort(loop, left_slot, left_generation, 0), 0);
    CHECK_EQUAL(join("", ""), -EINVAL);
    CHECK_EQUAL(poll_now(), 2);
    CHECK_EQUAL(mux_release(loop, left_slot, left_generation), 0);
    CHECK_EQUAL(join("", ""), -ESTALE);
    end();
}

TEST(an_outgoing_connection_is_told_and_held_until_python_lets_it_go)
{
    begin(usual());
    int64_t made = mux_connect(loop, "where", 5, &generation);
    CHECK(made >= 0);
    CHECK_EQUAL(stats.outgoing, 1);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_CONNECTED, 0);
    CHECK_EQUAL(mux_handle(loop, (uint32_t)made, generation), -EBADF); /* there is no descriptor */
    CHECK_EQUAL(mux_name(loop, (uint32_t)made, generation, &generation, 0), -EBADF);
    int handle = script_dialled(script);
    script_arrive(script, handle, "banner", 6);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_hold(loop, (uint32_t)made, generation, 0), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 6);
    CHECK_EQUAL(stats.open, 0); /* it is not from outside */
    end();
    CHECK_EQUAL(stats.total, 0);
}

TEST(a_failed_attempt_is_told_and_released)
{
    begin(usual());
    script_unreachable(script, ECONNREFUSED);
    int64_t made = mux_connect(loop, "where", 5, &generation);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_CONNECTED, ECONNREFUSED);
    CHECK_EQUAL(stats.outgoing, 1);
    CHECK_EQUAL(mux_release(loop, (uint32_t)made, generation), 0);
    CHECK_EQUAL(stats.outgoing, 0);
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(an_attempt_that_is_given_up_ends_like_a_connection)
{
    begin(usual());
    int64_t made = mux_connect(loop, "where", 5, &generation);
    CHECK_EQUAL(mux_abort(loop, (uint32_t)made, generation, 0), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0);
    CHECK_EQUAL(mux_release(loop, (uint32_t)made, generation), 0);
    CHECK_EQUAL(stats.outgoing, 0);
    end();
}

TEST(outgoing_connections_have_a_cap_of_their_own)
{
    mux_options options = usual();
    options.connections = 2;
    begin(options);
    pair(1);
    for (int i = 0; i < 2; i++)
        CHECK(mux_connect(loop, "where", 5, &generation) >= 0);
    CHECK_EQUAL(mux_connect(loop, "where", 5, &generation), -EAGAIN);
    end();
}

TEST(a_side_that_we_opened_stands_for_a_client_that_python_does_not_see)
{
    begin(usual());
    uint32_t other_generation;
    (void)adopted(MUX_VERB_NONE, 1);
    const uint32_t other = (uint32_t)mux_connect(loop, "where", 5, &other_generation);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_is_client(loop, slot, generation), 1);
    CHECK_EQUAL(mux_relay(loop, slot, generation, other, other_generation, "", 0, "", 0), 0);
    CHECK_EQUAL(mux_is_client(loop, other, other_generation), 0);
    CHECK_EQUAL(mux_forget(loop, slot, generation), 0);
    CHECK_EQUAL(mux_is_client(loop, other, other_generation), 1);
    CHECK_EQUAL(mux_stop_unseen(loop, 9, NULL), 0); /* it ends with the other */
    CHECK_EQUAL(mux_abort(loop, other, other_generation, 0), 0);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_release(loop, other, other_generation), 0);
    CHECK_EQUAL(mux_is_client(loop, other, other_generation), -ESTALE);
    CHECK_EQUAL(stats.open, 0);
    end();
}
