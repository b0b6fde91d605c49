/* The loop on the scripted backends, inside another: when that is to poll although no descriptor says so. */
#include "scripted.h"

#define NEVER INT64_MAX

/* Poll as a guest does, when it is due and without waiting, up to `until`. Returns how often. */
static int as_guest(int64_t until)
{
    int polls = 0;
    for (int64_t due; (due = mux_loop_due(loop)) <= until; polls++) {
        CHECK(polls < POLLS_MOST);
        if (due > mux_fault_clock)
            mux_fault_clock = due;
        (void)poll_once(0);
    }
    if (mux_fault_clock < until)
        mux_fault_clock = until;
    told_is_old = true;
    return polls;
}

static void closed_with_a_queue(void)
{
    script_window(script, adopted(MUX_VERB_NONE, 1), 0);
    CHECK_EQUAL(wrote("12345678", 8), 8);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
}

TEST(a_loop_that_is_no_more_has_no_descriptor_and_is_never_due)
{
    CHECK_EQUAL(mux_loop_fd(NULL), -ESTALE);
    CHECK_EQUAL(mux_loop_due(NULL), NEVER);
}

TEST(a_backend_without_a_descriptor_says_so)
{
    begin(usual());
    CHECK_EQUAL(mux_loop_fd(loop), -ENOTSUP);
    end();
}

TEST(a_quiet_loop_is_never_due)
{
    begin(usual());
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    CHECK(mux_listen(loop, script_listener(script), MUX_VERB_ECHO, 0) >= 0);
    adopted(MUX_VERB_NONE, 1);
    adopted(MUX_VERB_ECHO, 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    CHECK_EQUAL(wrote("hello", 5), 0);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(an_end_between_two_polls_is_due_until_a_poll_has_told_of_it)
{
    for (int how = 0; how < 2; how++) {
        begin(usual());
        adopted(MUX_VERB_NONE, 1);
        CHECK_EQUAL(poll_now(), 0);
        CHECK_EQUAL(how ? mux_close(loop, slot, generation) : mux_abort(loop, slot, generation, 0), 0);
        CHECK_EQUAL(mux_loop_due(loop), 0);
        CHECK_EQUAL(mux_loop_due(loop), 0); /* to ask changes nothing */
        CHECK_EQUAL(poll_batch(), 1);
        expect(0, MUX_EV_LOST, 0);
        CHECK_EQUAL(mux_loop_due(loop), NEVER);
        end();
    }
}

TEST(the_end_of_what_python_does_not_see_is_due_all_the_same)
{
    begin(usual());
    int peer = adopted(MUX_VERB_ECHO, 0);
    CHECK_EQUAL(poll_now(), 0);
    mux_close_unseen(loop, 1);
    CHECK_EQUAL(mux_loop_due(loop), 0);
    CHECK(released(peer));
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(a_send_that_fails_is_due)
{
    begin(usual());
    script_window(script, adopted(MUX_VERB_NONE, 1), 0);
    CHECK_EQUAL(poll_now(), 0);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, ENOMEM);
    CHECK(mux_send(loop, slot, generation, "hello", 5) >= 0);
    CHECK_EQUAL(mux_loop_due(loop), 0);
    CHECK_EQUAL(poll_batch(), 1);
    expect(0, MUX_EV_LOST, ENOMEM);
    end();
}

TEST(what_the_backend_is_to_do_is_due)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    script_arrive(script, peer, "later", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 0), 0);
    CHECK_EQUAL(mux_loop_due(loop), script_is_late ? 0 : NEVER); /* memory looks by itself */
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 5);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(a_full_batch_leaves_the_rest_due)
{
    mux_options options = usual();
    options.read_chunk = 65536;
    begin(options);
    static char many[60000];
    for (int i = 0; i < 20; i++)
        script_arrive(script, adopted(MUX_VERB_NONE, 1), many, sizeof many);
    uint64_t bytes = 0;
    (void)poll_batch();
    for (;;) {
        for (int i = 0; i < told_count; i++)
            bytes += (uint64_t)told[i].value;
        if (bytes == 20 * sizeof many)
            break;
        CHECK_EQUAL(mux_loop_due(loop), 0);
        (void)poll_batch();
    }
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(an_end_that_a_full_batch_has_no_room_for_is_due)
{
    static char many[65536]; /* four of them are an arena, to the last byte */
    mux_options options = usual();
    options.read_chunk = sizeof many;
    options.idle = SECOND;
    begin(options);
    adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(poll_now(), 0);
    mux_fault_clock += 2 * SECOND;
    for (int i = 0; i < 4; i++)
        script_arrive(script, adopted(MUX_VERB_NONE, 1), many, sizeof many);
    CHECK_EQUAL(poll_batch(), 4);
    CHECK_EQUAL(mux_loop_due(loop), 0);
    (void)as_guest(mux_fault_clock);
    CHECK_EQUAL(told_count, 1);
    expect(0, MUX_EV_LOST, MUX_IDLE);
    end();
}

TEST(a_guest_that_polls_when_due_ends_an_idle_connection_in_time)
{
    mux_options options = usual();
    options.idle = SECOND;
    begin(options);
    int peer = adopted(MUX_VERB_ECHO, 0);
    int64_t from = mux_fault_clock;
    int64_t due = mux_loop_due(loop);
    CHECK(due > from && due <= from + SECOND + SECOND / 31); /* two of 62 ticks */
    (void)as_guest(from + SECOND - 1);
    CHECK(!script_released(script, peer));
    CHECK(as_guest(from + SECOND + SECOND / 31) <= 70); /* a look a tick, and what the end takes */
    CHECK(released(peer));
    CHECK_EQUAL(stats.idle, 1);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(what_has_moved_meanwhile_has_its_deadline_later)
{
    mux_options options = usual();
    options.idle = SECOND;
    begin(options);
    int peer = adopted(MUX_VERB_ECHO, 0);
    int64_t from = mux_fault_clock;
    (void)as_guest(from + SECOND / 2);
    script_arrive(script, peer, "x", 1);
    settle();
    (void)as_guest(from + SECOND + SECOND / 4);
    CHECK(!script_released(script, peer));
    CHECK(mux_loop_due(loop) < from + 2 * SECOND);
    (void)as_guest(from + 2 * SECOND);
    CHECK(released(peer));
    end();
}

TEST(an_earlier_deadline_that_is_set_between_two_polls_is_due_earlier)
{
    mux_options options = usual();
    options.idle = 620 * SECOND;
    options.close = SECOND;
    begin(options);
    adopted(MUX_VERB_ECHO, 0);
    CHECK_EQUAL(poll_now(), 0);
    int64_t before = mux_loop_due(loop), from = mux_fault_clock;
    CHECK(before > from + SECOND && before <= from + 11 * SECOND); /* a tick of 620 s is 10 s */
    closed_with_a_queue();
    CHECK(mux_loop_due(loop) <= from + SECOND + SECOND / 31);
    (void)as_guest(from + SECOND + SECOND / 31);
    expect(told_count - 1, MUX_EV_LOST, MUX_NOT_TAKEN);
    end();
}

TEST(a_half_closed_relay_is_due_at_its_deadline)
{
    mux_options options = usual();
    options.half_close = SECOND;
    begin(options);
    int left = adopted(MUX_VERB_NONE, 1);
    uint32_t left_slot = slot, left_generation = generation;
    adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_relay(loop, left_slot, left_generation, slot, generation, "", 0, "", 0), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    script_end(script, left);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(mux_loop_due(loop), mux_fault_clock + SECOND);
    (void)as_guest(mux_fault_clock + SECOND);
    CHECK_EQUAL(told_count, 2);
    expect(0, MUX_EV_LOST, MUX_HALF_CLOSED);
    expect(1, MUX_EV_LOST, MUX_HALF_CLOSED);
    end();
}

TEST(what_lingers_is_due_until_it_has_ended)
{
    static char many[5000]; /* more than a receive takes */
    mux_options options = usual();
    options.linger = 2 * SECOND;
    begin(options);
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(wrote("answer", 6), 0);
    script_arrive(script, peer, many, sizeof many);
    script_slow(script, peer, true);
    CHECK_EQUAL(poll_batch(), 1);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    int64_t from = mux_fault_clock;
    CHECK(mux_loop_due(loop) <= from + 2 * SECOND / 16);
    script_slow(script, peer, false); /* nothing tells of an acknowledgement but a look */
    (void)as_guest(from + 2 * SECOND / 16);
    CHECK(released(peer));
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(the_end_of_a_rest_is_due)
{
    begin(usual());
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_ECHO, 0) >= 0);
    script_connect(script, listener);
    script_refuse(script, listener, EMFILE);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_TROUBLE, EMFILE);
    int64_t until = mux_fault_clock + SECOND / 10;
    CHECK_EQUAL(mux_loop_due(loop), until);
    script_refuse(script, listener, 0);
    (void)as_guest(until - 1);
    CHECK_EQUAL(stats.open, 0);
    CHECK(as_guest(until) > 0);
    settle();
    CHECK_EQUAL(stats.open, 1);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}

TEST(a_listener_at_the_cap_is_due_once_a_connection_has_made_room)
{
    mux_options options = usual();
    options.connections = 1;
    begin(options);
    int listener = script_listener(script);
    CHECK(mux_listen(loop, listener, MUX_VERB_NONE, 1) >= 0);
    script_connect(script, listener);
    script_connect(script, listener);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_ACCEPTED, told[0].value);
    slot = told[0].slot;
    generation = (uint32_t)told[0].value;
    CHECK_EQUAL(mux_loop_due(loop), NEVER); /* at the cap nobody spins */
    CHECK_EQUAL(mux_abort(loop, slot, generation, 0), 0);
    CHECK_EQUAL(poll_batch(), 1);
    CHECK_EQUAL(mux_loop_due(loop), NEVER); /* it counts until it is released */
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK_EQUAL(mux_loop_due(loop), 0);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(told[0].kind, MUX_EV_ACCEPTED);
    CHECK_EQUAL(mux_loop_due(loop), NEVER);
    end();
}
