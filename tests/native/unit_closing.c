/* The loop on the scripted backends: how a connection ends, and that no end harms what is on its way. */
#include "scripted.h"

static mux_options with(int64_t idle, int64_t close, int64_t linger)
{
    mux_options options = usual();
    options.idle = idle;
    options.close = close;
    options.linger = linger;
    return options;
}

/* A connection that was answered, whose last receive left something, and that was closed. */
static int closed_with_unread(bool slow)
{
    static char many[5000]; /* more than a receive takes */
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(wrote("answer", 6), 0);
    script_arrive(script, peer, many, sizeof many);
    script_slow(script, peer, slow);
    CHECK_EQUAL(poll_batch(), 1);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    return peer;
}

TEST(where_nothing_is_unread_a_close_is_a_close)
{
    begin(with(0, 0, SECOND));
    int peer = adopted(MUX_VERB_NONE, 1);
    script_arrive(script, peer, "question", 8);
    script_slow(script, peer, true);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0);
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(released(peer));
    CHECK(!ended(peer)); /* no FIN of its own: close(2) sends it */
    end();
}

TEST(what_is_unread_is_dropped_until_the_peer_has_acknowledged)
{
    begin(with(0, 0, 10 * SECOND));
    int peer = closed_with_unread(true);
    CHECK(ended(peer)); /* the FIN is behind the last byte */
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0); /* our part is done */
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK_EQUAL(mux_queued(loop, slot, generation), 0);
    CHECK(!released(peer));
    CHECK_EQUAL(stats.open, 1);
    script_arrive(script, peer, "more", 4);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!released(peer));
    script_slow(script, peer, false);
    script_arrive(script, peer, "more", 4);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(released(peer) && !script_reset(script, peer));
    CHECK_EQUAL(stats.open, 0);
    CHECK(got(peer, "answer"));
    end();
}

TEST(what_is_acknowledged_at_once_does_not_linger)
{
    begin(with(0, 0, 10 * SECOND));
    int peer = closed_with_unread(false);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(released(peer) && ended(peer));
    end();
}

TEST(lingering_ends_with_its_deadline_with_eof_and_with_a_reset)
{
    for (int how = 0; how < 3; how++) {
        begin(with(0, 0, 2 * SECOND));
        int peer = closed_with_unread(true);
        CHECK_EQUAL(poll_now(), 1);
        CHECK_EQUAL(mux_release(loop, slot, generation), 0);
        int64_t from = mux_fault_clock;
        if (how == 1)
            script_end(script, peer);
        if (how == 2)
            script_break(script, peer, ECONNRESET);
        while (stats.open && mux_fault_clock < from + 10 * SECOND)
            CHECK_EQUAL(poll_until(mux_fault_clock + SECOND / 10), 0);
        CHECK(released(peer));
        CHECK(how || mux_fault_clock >= from + 2 * SECOND);
        CHECK(mux_fault_clock <= from + (how ? SECOND : 3 * SECOND));
        end();
    }
}

TEST(python_may_take_its_time_to_release_what_has_stopped_lingering)
{
    begin(with(0, 0, 2 * SECOND));
    int peer = closed_with_unread(true);
    CHECK_EQUAL(poll_now(), 1);
    script_end(script, peer);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!released(peer));
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(released(peer));
    end();
}

TEST(a_loop_that_ends_gives_back_what_lingers)
{
    begin(with(0, 0, 2 * SECOND));
    closed_with_unread(true);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK_EQUAL(mux_unsent(loop), 1);
    mux_close_unseen(loop, 1);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.open, 0);
    end();
}

TEST(who_talks_while_we_send_the_rest_is_waited_for)
{
    begin(with(0, 0, 2 * SECOND));
    int peer = adopted(MUX_VERB_ECHO, 0);
    script_window(script, peer, 0);
    script_arrive(script, peer, "echo", 4);
    CHECK_EQUAL(poll_now(), 0);
    mux_close_unseen(loop, 0); /* a drain */
    script_slow(script, peer, true);
    script_arrive(script, peer, "more", 4);
    CHECK_EQUAL(poll_now(), 0); /* dropped */
    script_window(script, peer, 100);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(peer, "echo"));
    CHECK(ended(peer) && !released(peer));
    end();
}

TEST(a_closed_connection_has_a_deadline_while_nothing_is_taken)
{
    begin(with(0, 2 * SECOND, SECOND));
    int peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 0);
    CHECK_EQUAL(wrote("12345678", 8), 8);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    for (int i = 0; i < 4; i++) { /* a byte a second is enough */
        script_window(script, peer, 1);
        CHECK_EQUAL(poll_until(mux_fault_clock + SECOND), 0);
        CHECK_EQUAL(poll_until(mux_fault_clock + SECOND), 0);
    }
    int64_t from = mux_fault_clock;
    CHECK_EQUAL(poll_until(mux_fault_clock + 10 * SECOND), 1);
    expect(0, MUX_EV_LOST, MUX_NOT_TAKEN);
    CHECK(mux_fault_clock < from + 3 * SECOND);
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(released(peer) && script_reset(script, peer)); /* or the kernel would keep the rest for minutes */
    end();
}

TEST(the_shorter_deadline_ends_a_closed_connection)
{
    begin(with(SECOND, 60 * SECOND, SECOND));
    int peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 0);
    CHECK_EQUAL(wrote("12345678", 8), 8);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(poll_until(mux_fault_clock + 10 * SECOND), 1);
    expect(0, MUX_EV_LOST, MUX_IDLE);
    end();
}

TEST(a_stall_ends_nobody_whose_bytes_wait)
{
    begin(with(SECOND, 0, 0));
    int talks = adopted(MUX_VERB_ECHO, 0);
    int silent = adopted(MUX_VERB_ECHO, 0);
    CHECK_EQUAL(poll_now(), 0);
    script_arrive(script, talks, "x", 1);
    mux_fault_clock += 5 * SECOND; /* a callback that takes long, a stopped process */
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!released(talks) && got(talks, "x"));
    CHECK(released(silent));
    end();
}

TEST(what_python_writes_after_a_long_callback_has_moved_then)
{
    begin(with(SECOND, 0, 0));
    int peer = adopted(MUX_VERB_NONE, 1);
    script_arrive(script, peer, "x", 1);
    CHECK_EQUAL(poll_now(), 1);
    mux_fault_clock += 5 * SECOND;
    CHECK_EQUAL(wrote("y", 1), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!released(peer));
    end();
}

TEST(a_refused_connection_that_is_lost_in_the_same_batch_is_given_back)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_break(script, peer, ECONNRESET);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ECONNRESET);
    CHECK_EQUAL(mux_refuse(loop, slot, generation), 0);
    CHECK(released(peer));
    CHECK_EQUAL(stats.open, 0);
    end();
}

TEST(a_relay_takes_two_and_is_no_listeners)
{
    begin(usual());
    int listener = script_listener(script), peer = script_peer(script);
    CHECK_EQUAL(mux_listen(loop, listener, MUX_VERB_RELAY, 0), -EINVAL);
    CHECK_EQUAL(mux_adopt(loop, peer, MUX_VERB_RELAY, 0, &generation), -EINVAL);
    adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_verb(loop, slot, generation, MUX_VERB_RELAY, NULL, 0), -EINVAL);
    end();
}

TEST(the_largest_cap_on_connections_is_a_large_cap)
{
    mux_options options = usual();
    options.connections = UINT32_MAX / 2;
    begin(options);
    for (int i = 0; i < 100; i++)
        adopted(MUX_VERB_ECHO, 0);
    CHECK_EQUAL(stats.open, 100);
    end();
}
