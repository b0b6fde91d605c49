/* The loop on the scripted backends: what a connection lives through, event by event. */
#include "scripted.h"

TEST(bytes_come_as_one_event_and_go_without_one)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_arrive(script, peer, "hello", 5);
    CHECK_EQUAL(poll_batch(), 1);
    expect(0, MUX_EV_DATA, 5);
    CHECK(!memcmp(mux_loop_arena(loop) + told[0].data, "hello", 5));
    CHECK_EQUAL(wrote("HELLO", 5), 0);
    CHECK(got(peer, "HELLO"));
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(a_connection_has_one_data_event_a_batch)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    static char many[10000];
    script_arrive(script, peer, many, sizeof many);
    for (int left = sizeof many; left > 0; left -= 4096) {
        CHECK_EQUAL(poll_batch(), 1);
        expect(0, MUX_EV_DATA, left < 4096 ? left : 4096);
    }
    end();
}

TEST(eof_comes_after_the_data)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_arrive(script, peer, "bye", 3);
    script_end(script, peer);
    CHECK_EQUAL(poll_batch(), 1);
    expect(0, MUX_EV_DATA, 3);
    CHECK_EQUAL(poll_batch(), 1);
    expect(0, MUX_EV_EOF, 0);
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(a_held_connection_brings_nothing_until_it_is_let_go)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    script_arrive(script, peer, "later", 5);
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
    script_window(script, peer, 500);
    CHECK_EQUAL(wrote(many, sizeof many), 2500);
    CHECK_EQUAL(wrote("end", 3), 2503);
    script_window(script, peer, 2410);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DRAINED, 93);
    script_window(script, peer, 1000);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DRAINED, 0);
    size_t size;
    const char *out = script_got(script, peer, &size);
    CHECK_EQUAL(size, 3003);
    CHECK(!memcmp(out + 3000, "end", 3));
    end();
}

TEST(close_waits_for_the_queue_and_abort_does_not)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 0);
    CHECK_EQUAL(wrote("hello", 5), 5);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    script_window(script, peer, 100);
    CHECK_EQUAL(poll_now(), 2);
    expect(0, MUX_EV_DRAINED, 0);
    expect(1, MUX_EV_LOST, 0);
    CHECK(got(peer, "hello"));
    CHECK(!released(peer));
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(released(peer));

    peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 0);
    CHECK_EQUAL(wrote("hello", 5), 5);
    CHECK_EQUAL(mux_abort(loop, slot, generation, 0), 0);
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
    CHECK_EQUAL(mux_abort(loop, slot, generation, 0), 0);
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
    CHECK_EQUAL(mux_abort(loop, old, before, 0), -ESTALE);
    CHECK_EQUAL(mux_refuse(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_verb(loop, old, before, MUX_VERB_ECHO, NULL, 0), -ESTALE);
    CHECK_EQUAL(mux_bytes(loop, old, before, in_out), -ESTALE);
    CHECK_EQUAL(mux_handle(loop, old, before), -ESTALE);
    CHECK_EQUAL(mux_name(loop, old, before, in_out, sizeof in_out), -ESTALE);
    CHECK_EQUAL(mux_release(loop, old, before), -ESTALE);
    CHECK(got(next, "") && !ended(next));
    end();
}

TEST(write_eof_follows_what_was_written)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 2);
    CHECK_EQUAL(wrote("hello", 5), 3);
    CHECK_EQUAL(mux_write_eof(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!ended(peer));
    script_window(script, peer, 100);
    CHECK_EQUAL(poll_now(), 1);
    CHECK(ended(peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(a_reset_is_told_with_its_errno_or_counted)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_break(script, peer, ECONNRESET);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ECONNRESET);
    int unseen = adopted(MUX_VERB_ECHO, 0);
    script_break(script, unseen, ECONNRESET);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.errors[ECONNRESET], 1);
    CHECK(released(unseen));
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
        script_arrive(script, busy, "x", 1);
        CHECK_EQUAL(poll_until(mux_fault_clock + SECOND / 10), 0);
    }
    CHECK(released(quiet));
    CHECK(!released(busy));
    CHECK_EQUAL(stats.idle, 1);
    end();
}

TEST(a_full_batch_leaves_the_rest_for_the_next)
{
    mux_options options = usual();
    options.read_chunk = 65536;
    begin(options);
    static char many[60000];
    for (int i = 0; i < 20; i++)
        script_arrive(script, adopted(MUX_VERB_NONE, 1), many, sizeof many);
    uint64_t bytes = 0;
    int polls = 0;
    for (; bytes < 20 * sizeof many; polls++) {
        int count = poll_batch();
        for (int i = 0; i < count; i++)
            bytes += (uint64_t)told[i].value;
    }
    CHECK_EQUAL(bytes, 20 * sizeof many);
    CHECK(polls >= 4); /* 1.2 MB through an arena of 256 KiB */
    end();
}

TEST(a_poll_keeps_its_deadline_and_returns_when_woken)
{
    begin(usual());
    int64_t until = mux_fault_clock + 5 * SECOND;
    CHECK_EQUAL(poll_until(until), 0);
    CHECK(mux_fault_clock >= until);
    script_wake(script);
    int64_t before = mux_fault_clock;
    CHECK_EQUAL(mux_loop_poll(loop, before + 5 * SECOND), 0);
    CHECK_EQUAL(mux_fault_clock, before);
    end();
}

TEST(no_memory_for_the_queue_ends_that_connection_alone)
{
    begin(usual());
    int other = adopted(MUX_VERB_ECHO, 0);
    int peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 0);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, ENOMEM);
    CHECK_EQUAL(wrote("hello", 5), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ENOMEM);
    script_arrive(script, other, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(other, "hello"));
    end();
}
