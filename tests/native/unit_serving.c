/* The loop on the scripted backends: listeners, and what C serves by itself. */
#include "scripted.h"

TEST(an_unseen_echo_lives_and_ends_without_an_event)
{
    begin(usual());
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    int peer = script_connect(script, listener);
    CHECK_EQUAL(poll_now(), 0);
    script_arrive(script, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(peer, "hello"));
    script_end(script, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peer));
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
    script_window(script, peer, 0);
    script_arrive(script, peer, many, sizeof many);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.bytes_in, 4096); /* one receive, which is above the mark of 1,000 */
    for (int i = 0; i < 40; i++) {
        script_window(script, peer, 3000);
        CHECK_EQUAL(poll_now(), 0);
    }
    size_t size;
    const char *out = script_got(script, peer, &size);
    CHECK_EQUAL(size, sizeof many);
    CHECK(!memcmp(out, many, size));
    end();
}

TEST(an_echo_answers_eof_only_once_all_is_sent_back)
{
    begin(usual());
    int peer = adopted(MUX_VERB_ECHO, 0);
    script_window(script, peer, 2);
    script_arrive(script, peer, "hello", 5);
    script_end(script, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!released(peer));
    script_window(script, peer, 100);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(a_verb_takes_along_what_was_received_and_lifts_the_hold)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    script_arrive(script, peer, " world", 6);
    CHECK_EQUAL(mux_verb(loop, slot, generation, MUX_VERB_ECHO, "hello", 5), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(peer, "hello world"));
    script_end(script, peer);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0); /* of a seen connection the end is told */
    end();
}

TEST(discard_counts_and_drops)
{
    begin(usual());
    int peer = adopted(MUX_VERB_DISCARD, 0);
    script_arrive(script, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.bytes_in, 5);
    CHECK(got(peer, ""));
    script_end(script, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peer));
    end();
}

TEST(a_listener_rests_at_the_cap_until_a_connection_ends)
{
    mux_options options = usual();
    options.connections = 2;
    begin(options);
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    int first = script_connect(script, listener);
    script_connect(script, listener);
    script_connect(script, listener);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 2);
    CHECK_EQUAL(script_attempts(script, listener), 2);
    script_end(script, first);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 2);
    CHECK_EQUAL(stats.total, 3);
    end();
}

TEST(a_listener_that_is_taken_away_at_the_cap_takes_along_who_waits)
{
    mux_options options = usual();
    options.connections = 1;
    begin(options);
    int listener = script_listener(script);
    int64_t place = mux_listen(loop, listener, MUX_VERB_ECHO, 0);
    int first = script_connect(script, listener);
    int second = script_connect(script, listener);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_unlisten(loop, (uint32_t)place), 0);
    script_end(script, first);
    CHECK(released(first));
    CHECK_EQUAL(released(second), script_is_late); /* accepted uninvited, or still the kernel's */
    CHECK_EQUAL(stats.open, 0);
    CHECK_EQUAL(stats.total, 1);
    end();
}

/* Step by step: a scripted backend sleeps as long as it was told to before it told of who waits. */
static void pass_slowly(int milliseconds)
{
    for (int i = 0; i < milliseconds; i++)
        CHECK_EQUAL(poll_until(mux_fault_clock + SECOND / 1000), 0);
}

TEST(a_client_is_left_to_the_worker_that_has_fewer_unless_that_is_held_up)
{
    if (script_is_late) /* it accepts uninvited, and what is accepted is served */
        return;
    mux_stats cells[3] = {{.serving = 1}, {.serving = 1}, {.serving = 0}};
    begin(usual());
    mux_loop_count_in(loop, &cells[0]);
    mux_loop_balance(loop, (const char *)cells, 3, sizeof *cells);
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    script_connect(script, listener);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(cells[0].open, 1);
    script_connect(script, listener);
    pass_slowly(20);
    CHECK_EQUAL(cells[0].open, 1);
    cells[1].open = 1;
    pass_slowly(2);
    CHECK_EQUAL(cells[0].open, 2);
    script_connect(script, listener);
    pass_slowly(20);
    CHECK_EQUAL(cells[0].open, 2);
    pass_slowly(100);
    CHECK_EQUAL(cells[0].open, 3);
    mux_loop_count_in(loop, &stats);
    end();
}

TEST(a_listener_without_descriptors_tries_ten_times_a_second_and_tells_once)
{
    begin(usual());
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    script_connect(script, listener);
    script_refuse(script, listener, EMFILE);
    CHECK_EQUAL(pass(SECOND), 1);
    CHECK(script_attempts(script, listener) >= 9 && script_attempts(script, listener) <= 11);
    script_refuse(script, listener, 0);
    CHECK_EQUAL(poll_until(mux_fault_clock + SECOND / 5), 0);
    CHECK_EQUAL(stats.open, 1);
    end();
}

TEST(a_connection_aborted_before_accept_is_skipped_without_a_rest)
{
    begin(usual());
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    script_refuse(script, listener, ECONNABORTED);
    CHECK_EQUAL(poll_now(), 0);
    script_refuse(script, listener, 0);
    script_connect(script, listener);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 1);
    CHECK_EQUAL(stats.accept_errors, 0);
    end();
}

TEST(an_accepted_connection_is_told_with_its_listener_and_the_peers_address)
{
    begin(usual());
    int listener = script_listener(script);
    int64_t at = mux_listen(loop, listener, MUX_VERB_NONE, 1);
    script_connect(script, listener);
    CHECK_EQUAL(poll_batch(), 1);
    CHECK_EQUAL(told[0].kind, MUX_EV_ACCEPTED);
    struct mux_accepted accepted;
    const char *data = mux_loop_arena(loop) + told[0].data;
    memcpy(&accepted, data, sizeof accepted);
    CHECK_EQUAL(accepted.listener, at);
    CHECK_EQUAL(accepted.size, strlen(script_address));
    CHECK(!memcmp(data + sizeof accepted, script_address, accepted.size));
    end();
}

TEST(a_refused_connection_is_given_back_in_the_next_turn_and_never_heard_of)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_arrive(script, peer, "hello", 5);
    CHECK_EQUAL(mux_refuse(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peer));
    CHECK_EQUAL(stats.open, 0);
    end();
}

TEST(closing_what_python_does_not_see_lets_it_send_first)
{
    begin(usual());
    int peer = adopted(MUX_VERB_ECHO, 0);
    script_window(script, peer, 0);
    script_arrive(script, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_unsent(loop), 5);
    mux_close_unseen(loop, 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!released(peer));
    script_window(script, peer, 10);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(stopping_what_python_does_not_see_ends_so_many_and_counts_them)
{
    begin(usual());
    const int peers[] = {adopted(MUX_VERB_ECHO, 0), adopted(MUX_VERB_ECHO, 0), adopted(MUX_VERB_NONE, 1)};
    CHECK_EQUAL(mux_stop_unseen(loop, 0, NULL), 0);
    CHECK_EQUAL(mux_stop_unseen(loop, 1, NULL), 1);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peers[0]) && !released(peers[1]));
    CHECK_EQUAL(mux_stop_unseen(loop, 9, NULL), 1);
    CHECK_EQUAL(mux_stop_unseen(loop, 9, NULL), 0); /* it is about to go */
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peers[1]) && !released(peers[2])); /* which Python sees */
    CHECK_EQUAL(mux_stop_unseen(NULL, 9, NULL), 0);
    end();
}

TEST(who_moves_no_byte_between_two_looks_rests_unless_some_are_queued)
{
    begin(usual());
    uint64_t *moved = calloc(mux_loop_slots(loop), sizeof *moved);
    const int slow = adopted(MUX_VERB_ECHO, 0), busy = adopted(MUX_VERB_ECHO, 0), idle = adopted(MUX_VERB_ECHO, 0);
    script_window(script, slow, 0);
    script_arrive(script, slow, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_stop_unseen(loop, 9, moved), 0); /* the first look */
    script_arrive(script, busy, "x", 1);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_stop_unseen(loop, 9, moved), 1);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(idle) && !released(slow) && !released(busy));
    script_window(script, slow, 10);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_stop_unseen(loop, 9, moved), 1); /* the busy one rests by now */
    CHECK_EQUAL(mux_stop_unseen(loop, 9, moved), 1);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(slow) && released(busy));
    free(moved);
    end();
}
