/* Idle deadlines: each connection once, in time, and cheaply. */
#include "check.h"
#include "wheel.h"

#define SECOND 1000000000LL

static mux_slot *open_slot(mux_slots *slots, int64_t moved_at)
{
    mux_slot *slot = mux_slots_take(slots);
    slot->state = MUX_OPEN;
    slot->moved_at = moved_at;
    return slot;
}

static mux_slot *expired(mux_wheel *wheel, int64_t now)
{
    uint32_t looks = UINT32_MAX;
    return mux_wheel_expired(wheel, now, &looks);
}

TEST(a_deadline_is_kept_within_a_sixtieth_of_the_timeout_and_never_early)
{
    mux_slots slots;
    mux_wheel wheel;
    for (int64_t idle = SECOND / 100; idle < 4000 * SECOND; idle = idle * 7 / 3) {
        CHECK_EQUAL(mux_slots_open(&slots, 10), 0);
        mux_wheel_open(&wheel, &slots, idle, 0);
        mux_slot *slot = open_slot(&slots, 0);
        mux_wheel_add(&wheel, slot);
        int64_t now = 0;
        while (!expired(&wheel, now)) {
            CHECK(mux_wheel_due(&wheel) > now);
            now = mux_wheel_due(&wheel);
        }
        CHECK(now >= idle);
        CHECK(now <= idle + idle / 20 + 4 * SECOND / 1000);
        mux_slots_close(&slots);
    }
}

TEST(a_connection_that_moves_lives_on)
{
    mux_slots slots;
    mux_wheel wheel;
    CHECK_EQUAL(mux_slots_open(&slots, 10), 0);
    mux_wheel_open(&wheel, &slots, SECOND, 0);
    mux_slot *busy = open_slot(&slots, 0), *quiet = open_slot(&slots, 0);
    mux_wheel_add(&wheel, busy);
    mux_wheel_add(&wheel, quiet);
    int ended = 0;
    for (int64_t now = 0; now < 10 * SECOND; now += SECOND / 50) {
        busy->moved_at = now;
        mux_slot *slot = expired(&wheel, now);
        if (slot) {
            CHECK(slot == quiet);
            ended++;
        }
    }
    CHECK_EQUAL(ended, 1);
    mux_slots_close(&slots);
}

TEST(a_long_sleep_loses_no_deadline)
{
    mux_slots slots;
    mux_wheel wheel;
    CHECK_EQUAL(mux_slots_open(&slots, 100), 0);
    mux_wheel_open(&wheel, &slots, SECOND, 0);
    for (int i = 0; i < 100; i++)
        mux_wheel_add(&wheel, open_slot(&slots, i * SECOND / 200));
    int ended = 0;
    while (expired(&wheel, 1000 * SECOND))
        ended++;
    CHECK_EQUAL(ended, 100);
    CHECK_EQUAL(mux_wheel_due(&wheel), INT64_MAX);
    mux_slots_close(&slots);
}

TEST(a_leap_of_the_clock_by_years_is_no_walk_through_every_tick)
{
    mux_slots slots;
    mux_wheel wheel;
    CHECK_EQUAL(mux_slots_open(&slots, 100), 0);
    mux_wheel_open(&wheel, &slots, SECOND / 20, 0);
    for (int i = 0; i < 100; i++)
        mux_wheel_add(&wheel, open_slot(&slots, i * SECOND / 2000));
    int ended = 0;
    for (int64_t now = 3000000000 * SECOND; expired(&wheel, now);) /* 3 * 10^12 ticks */
        ended++;
    CHECK_EQUAL(ended, 100);
    mux_slots_close(&slots);
}

TEST(a_turn_looks_at_so_many_and_the_next_one_goes_on)
{
    mux_slots slots;
    mux_wheel wheel;
    CHECK_EQUAL(mux_slots_open(&slots, 100), 0);
    mux_wheel_open(&wheel, &slots, SECOND, 0);
    for (int i = 0; i < 100; i++)
        mux_wheel_add(&wheel, open_slot(&slots, 0));
    int ended = 0;
    for (int turn = 0; turn < 10; turn++) {
        uint32_t looks = 10;
        while (mux_wheel_expired(&wheel, 2 * SECOND, &looks))
            ended++;
        CHECK_EQUAL(ended, 10 * (turn + 1));
        CHECK(turn == 9 || mux_wheel_due(&wheel) <= 2 * SECOND);
    }
    mux_slots_close(&slots);
}

TEST(a_connection_that_ended_is_in_no_list)
{
    mux_slots slots;
    mux_wheel wheel;
    mux_slot *all[50];
    CHECK_EQUAL(mux_slots_open(&slots, 50), 0);
    mux_wheel_open(&wheel, &slots, SECOND, 0);
    for (int i = 0; i < 50; i++)
        mux_wheel_add(&wheel, all[i] = open_slot(&slots, 0));
    for (int i = 0; i < 50; i += 2) {
        mux_wheel_remove(&wheel, all[i]);
        mux_wheel_remove(&wheel, all[i]);
    }
    mux_slot *slot;
    int ended = 0;
    while ((slot = expired(&wheel, 2 * SECOND))) {
        CHECK_EQUAL(slot->index % 2, 1);
        ended++;
    }
    CHECK_EQUAL(ended, 25);
    mux_slots_close(&slots);
}

TEST(without_a_timeout_there_is_nothing_to_wait_for)
{
    mux_slots slots;
    mux_wheel wheel;
    CHECK_EQUAL(mux_slots_open(&slots, 10), 0);
    mux_wheel_open(&wheel, &slots, 0, 0);
    mux_wheel_add(&wheel, open_slot(&slots, 0));
    CHECK_EQUAL(mux_wheel_due(&wheel), INT64_MAX);
    CHECK(!expired(&wheel, 1000 * SECOND));
    mux_slots_close(&slots);
}
