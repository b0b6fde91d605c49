/* The loop on the scripted backends: connections that count against rates, under every verb, to every end. */
#include "rate.h"
#include "scripted.h"

#define RATE 1000.0 /* bytes a second, with a burst of 100 and so a quantum of 50 */

static char bytes[5000];

static uint32_t rate(void)
{
    int64_t made = mux_rate_new(loop, RATE, 100);
    CHECK(made >= 0);
    return (uint32_t)made;
}

/* One that counts against a rate of its own; returns its handle. */
static int limited(int verb, int seen)
{
    int handle = adopted(verb, seen);
    uint32_t its = rate();
    CHECK_EQUAL(mux_limit(loop, slot, generation, &its, 1), 0);
    CHECK_EQUAL(mux_rate_drop(loop, its), 0); /* it goes with the connection */
    return handle;
}

static bool most_within(uint64_t size, int64_t time)
{
    return (double)size <= RATE * (double)time / SECOND + 100;
}

TEST(what_comes_is_received_at_its_rate_and_all_of_it)
{
    begin(usual());
    int64_t from = mux_fault_clock;
    script_arrive(script, limited(MUX_VERB_NONE, 1), bytes, 500);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 100);
    CHECK_EQUAL(poll_until(from + 51 * SECOND / 1000), 1);
    expect(0, MUX_EV_DATA, 50);
    while (stats.bytes_in < 500) {
        (void)poll_until(mux_fault_clock + SECOND / 100);
        CHECK(most_within(stats.bytes_in, mux_fault_clock - from));
        CHECK(mux_fault_clock - from < SECOND);
    }
    CHECK(mux_fault_clock - from >= 4 * SECOND / 10);
    end();
}

TEST(the_loop_sleeps_while_it_waits)
{
    begin(usual());
    script_arrive(script, limited(MUX_VERB_DISCARD, 0), bytes, 1100);
    (void)poll_now();
    const uint64_t before = stats.turns;
    (void)pass(2 * SECOND);
    CHECK_EQUAL(stats.bytes_in, 1100);
    CHECK(stats.turns - before < 20 * 6 + 20); /* twenty quanta; the late backend takes some turns for each */
    CHECK(mux_loop_due(loop) == INT64_MAX || script_is_late);
    end();
}

TEST(others_are_served_meanwhile)
{
    begin(usual());
    script_arrive(script, limited(MUX_VERB_ECHO, 0), bytes, 5000);
    (void)poll_now();
    int other = adopted(MUX_VERB_ECHO, 0);
    script_arrive(script, other, "now", 3);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(other, "now"));
    CHECK_EQUAL(stats.bytes_in, 100 + 3);
    end();
}

TEST(a_relay_has_a_rate_for_each_direction_and_ends_after_the_last_byte)
{
    begin(usual());
    int left = limited(MUX_VERB_NONE, 0);
    uint32_t left_slot = slot, left_generation = generation;
    int right = adopted(MUX_VERB_NONE, 0);
    CHECK_EQUAL(mux_relay(loop, left_slot, left_generation, slot, generation, "", 0, "", 0), 0);
    script_arrive(script, left, bytes, 400);
    script_end(script, left);
    script_arrive(script, right, bytes, 1000);
    (void)poll_now();
    CHECK_EQUAL(stats.bytes_in, 100 + 1000);
    CHECK(!ended(right));
    CHECK_EQUAL(mux_waits(loop, slot, generation), 1); /* for the other side */
    (void)pass(SECOND / 2);
    CHECK_EQUAL(stats.bytes_in, 400 + 1000);
    CHECK(ended(right) && !released(left));
    script_end(script, right);
    (void)poll_now();
    CHECK(released(left) && released(right));
    end();
}

/* One that has used up its rate and has more to come; it waits. */
static int waiting(int verb, int seen)
{
    int handle = limited(verb, seen);
    script_arrive(script, handle, bytes, 5000);
    (void)poll_now();
    CHECK_EQUAL(mux_waits(loop, slot, generation), 1);
    return handle;
}

TEST(who_waits_is_closed_and_what_is_queued_is_sent)
{
    begin(usual());
    int handle = waiting(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_send(loop, slot, generation, "bye", 3), script_is_late ? 3 : 0);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(mux_waits(loop, slot, generation), 0);
    expect(poll_now() - 1, MUX_EV_LOST, 0);
    CHECK(got(handle, "bye"));
    end();
}

TEST(who_waits_is_aborted_and_hears_of_it)
{
    begin(usual());
    (void)waiting(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_abort(loop, slot, generation, 0), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, 0);
    CHECK_EQUAL(mux_waits(loop, slot, generation), 0);
    end();
}

TEST(who_waits_is_not_idle_and_who_has_nothing_to_wait_for_is)
{
    mux_options options = usual();
    options.idle = SECOND / 100;
    begin(options);
    int handle = waiting(MUX_VERB_DISCARD, 0); /* half a second for a quantum */
    int64_t from = mux_fault_clock;
    (void)pass(4 * SECOND);
    CHECK(!released(handle));
    CHECK(stats.bytes_in > 3900);
    (void)pass(2 * SECOND);
    CHECK(released(handle));
    CHECK_EQUAL(stats.bytes_in, 5000);
    CHECK_EQUAL(stats.idle, 1);
    CHECK(mux_fault_clock - from <= 6 * SECOND + SECOND / 100);
    end();
}

TEST(a_stop_takes_none_that_waits_for_one_at_rest)
{
    begin(usual());
    int handle = waiting(MUX_VERB_DISCARD, 0);
    uint64_t moved[300] = {0};
    CHECK(mux_loop_slots(loop) <= 300);
    CHECK_EQUAL(mux_stop_unseen(loop, 10, moved), 0);
    CHECK_EQUAL(mux_stop_unseen(loop, 10, moved), 0);
    CHECK_EQUAL(mux_stop_unseen(loop, 10, NULL), 1);
    CHECK(released(handle));
    end();
}

TEST(a_pause_and_a_rate_do_not_lift_each_other)
{
    begin(usual());
    (void)waiting(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    (void)pass(SECOND);
    CHECK_EQUAL(stats.bytes_in, 100);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 0), 0);
    CHECK_EQUAL(poll_batch(), 1);
    expect(0, MUX_EV_DATA, 100);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 0), 0);
    (void)poll_once(mux_fault_clock);
    CHECK_EQUAL(stats.bytes_in, 200);
    end();
}

TEST(without_rates_it_is_read_at_once)
{
    begin(usual());
    (void)waiting(MUX_VERB_DISCARD, 0);
    CHECK_EQUAL(mux_limit(loop, slot, generation, NULL, 0), 0);
    (void)poll_now();
    CHECK_EQUAL(stats.bytes_in, 5000);
    end();
}

TEST(a_rate_that_changes_holds_for_who_waits)
{
    begin(usual());
    int handle = adopted(MUX_VERB_DISCARD, 0);
    uint32_t its = rate();
    CHECK_EQUAL(mux_limit(loop, slot, generation, &its, 1), 0);
    script_arrive(script, handle, bytes, 5000);
    (void)poll_now();
    CHECK_EQUAL(stats.bytes_in, 100);
    CHECK_EQUAL(mux_rate_change(loop, its, 1e6, 1e5), 0);
    (void)pass(SECOND / 100);
    CHECK_EQUAL(stats.bytes_in, 5000);
    end();
}

TEST(the_next_life_of_a_slot_has_no_rate)
{
    begin(usual());
    int handle = waiting(MUX_VERB_DISCARD, 0);
    const uint32_t index = slot;
    CHECK_EQUAL(mux_abort(loop, slot, generation, 0), 0);
    CHECK(released(handle));
    script_arrive(script, adopted(MUX_VERB_DISCARD, 0), bytes, 5000);
    CHECK_EQUAL(slot, index);
    (void)poll_now();
    CHECK_EQUAL(stats.bytes_in, 5100);
    end();
}

TEST(what_cannot_be_is_refused)
{
    begin(usual());
    (void)adopted(MUX_VERB_NONE, 1);
    uint32_t wrong[MUX_RATES_MOST + 1];
    CHECK_EQUAL(mux_rate_drop(loop, 0), -EINVAL);
    CHECK_EQUAL(mux_rate_change(loop, 0, 1, 1), -EINVAL);
    CHECK_EQUAL(mux_limit(loop, slot, generation, NULL, 0), 0);
    for (uint32_t i = 0; i <= MUX_RATES_MOST; i++)
        wrong[i] = i;
    CHECK_EQUAL(mux_limit(loop, slot, generation, wrong, 1), -EINVAL);
    for (uint32_t i = 0; i <= MUX_RATES_MOST; i++)
        CHECK_EQUAL(rate(), i);
    CHECK_EQUAL(mux_limit(loop, slot, generation, wrong, MUX_RATES_MOST + 1), -EINVAL);
    CHECK_EQUAL(mux_limit(loop, slot, generation, wrong, MUX_RATES_MOST), 0);
    CHECK_EQUAL(mux_limit(loop, slot, generation + 2, wrong, MUX_RATES_MOST), -ESTALE);
    CHECK_EQUAL(mux_waits(loop, slot, generation + 2), -ESTALE);
    CHECK_EQUAL(mux_rate_new(NULL, 1, 1), -ESTALE);
    end();
}

TEST(who_has_waited_for_its_turn_has_all_its_time_from_then_on)
{
    for (int64_t idle = SECOND / 100; idle < SECOND / 20; idle += SECOND / 1000) {
        mux_options options = usual();
        options.idle = idle;
        begin(options);
        int handle = limited(MUX_VERB_NONE, 1);
        script_arrive(script, handle, bytes, 100);
        script_end(script, handle);
        CHECK_EQUAL(poll_now(), script_is_late ? 2 : 1); /* what has come already, an EOF too, needs no room */
        expect(0, MUX_EV_DATA, 100);
        int64_t from = mux_fault_clock;
        if (script_is_late) {
            end();
            return;
        }
        CHECK_EQUAL(poll_until(from + SECOND), 1);
        expect(0, MUX_EV_EOF, 0);
        CHECK(mux_fault_clock - from < SECOND / 15);
        CHECK_EQUAL(poll_until(mux_fault_clock + idle - SECOND / 500), 0);
        CHECK_EQUAL(poll_until(from + SECOND), 1);
        expect(0, MUX_EV_LOST, MUX_IDLE);
        end();
    }
}
