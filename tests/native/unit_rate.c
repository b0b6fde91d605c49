/* Bytes a second: never too many, all of them in the end, and shared alike. */
#include "check.h"
#include "rate.h"
#include "syscalls.h"

#define SECOND 1000000000LL
#define MS (SECOND / 1000)
#define NOBODY UINT32_MAX

static mux_rates *rates;

static uint32_t bucket(double per_second, double burst)
{
    int64_t made = mux_rates_add(rates, per_second, burst, 0);
    CHECK(made >= 0);
    return (uint32_t)made;
}

static void limited(uint32_t slot, uint32_t which)
{
    CHECK_EQUAL(mux_rates_limit(rates, slot, &which, 1), 0);
}

static size_t take(uint32_t slot, size_t size, int64_t now)
{
    size_t room = mux_rates_room(rates, slot, size, now);
    if (room)
        mux_rates_spend(rates, slot, room);
    return room;
}

/* All take what they can, again and again, for so long; what each got. */
static void flood(const uint32_t *slots, uint64_t *got, int count, size_t size, int64_t from, int64_t until)
{
    bool waits[16] = {false};
    for (int64_t now = from; now < until; now = mux_rates_due(rates)) {
        for (uint32_t next; (next = mux_rates_next(rates, now)) != NOBODY;)
            for (int i = 0; i < count; i++)
                waits[i] = waits[i] && slots[i] != next;
        for (bool any = true; any;) {
            any = false;
            for (int i = 0; i < count; i++) {
                if (waits[i])
                    continue;
                size_t took = take(slots[i], size, now);
                got[i] += took;
                waits[i] = !took;
                any = any || took;
            }
        }
        CHECK(mux_rates_due(rates) > now); /* else the loop would spin */
    }
}

TEST(who_has_no_rate_has_all_the_room)
{
    rates = mux_rates_open();
    CHECK_EQUAL(mux_rates_room(rates, 7, 1000, 0), 1000);
    CHECK_EQUAL(mux_rates_due(rates), INT64_MAX);
    CHECK(!mux_rates_limits(rates, 7));
    mux_rates_forget(rates, 7);
    limited(7, bucket(1000, 100));
    CHECK(mux_rates_limits(rates, 7) && !mux_rates_limits(rates, 6) && !mux_rates_limits(rates, 8));
    mux_rates_close(rates);
}

TEST(a_burst_comes_at_once_and_no_byte_more)
{
    rates = mux_rates_open();
    limited(0, bucket(1000, 100));
    CHECK_EQUAL(take(0, 60, 0), 60);
    CHECK_EQUAL(take(0, 60, 0), 0); /* 40 are less than a quantum, which is half the burst here */
    CHECK_EQUAL(mux_rates_due(rates), 10 * MS + 1);
    CHECK_EQUAL(mux_rates_next(rates, 10 * MS - 1), NOBODY);
    CHECK_EQUAL(mux_rates_next(rates, 10 * MS + 1), 0);
    CHECK_EQUAL(take(0, 60, 10 * MS + 1), 50);
    mux_rates_close(rates);
}

TEST(no_window_has_more_than_its_rate_and_a_burst_and_all_windows_together_nearly_have_it)
{
    static const double per_second[] = {1, 1000, 12345.6, 1e6, 1e9};
    for (int i = 0; i < 5; i++) {
        rates = mux_rates_open();
        const double burst = per_second[i] / 10 < 4096 ? 4096 : per_second[i] / 10;
        uint32_t slot = 3;
        uint64_t got = 0;
        const int64_t time = (int64_t)(20 * burst / per_second[i] * SECOND);
        limited(slot, bucket(per_second[i], burst));
        flood(&slot, &got, 1, 65536, 0, time);
        const double may = per_second[i] * (double)time / SECOND + burst;
        CHECK((double)got <= may);
        CHECK((double)got >= 0.97 * may);
        mux_rates_close(rates);
    }
}

TEST(those_who_share_a_bucket_get_alike_whatever_a_receive_takes)
{
    static const size_t sizes[] = {10, 1000, 65536};
    for (int i = 0; i < 3; i++) {
        rates = mux_rates_open();
        uint32_t slots[10], which = bucket(1e6, 1e5);
        uint64_t got[10] = {0}, all = 0;
        for (uint32_t j = 0; j < 10; j++)
            limited(slots[j] = 5 * j, which);
        flood(slots, got, 10, sizes[i], 0, 10 * SECOND);
        for (int j = 0; j < 10; j++) {
            all += got[j];
            CHECK(got[j] > 900000 && got[j] < 1100000);
        }
        CHECK(all > 9900000 && all <= 10100000);
        mux_rates_close(rates);
    }
}

TEST(who_waits_is_not_overtaken_by_who_comes)
{
    rates = mux_rates_open();
    uint32_t which = bucket(1000, 100);
    for (uint32_t i = 0; i < 3; i++)
        limited(i, which);
    CHECK_EQUAL(take(0, 100, 0), 100);
    CHECK_EQUAL(take(1, 100, 0), 0);
    CHECK_EQUAL(take(2, 100, SECOND), 0); /* there is enough, and it is for another */
    CHECK_EQUAL(mux_rates_next(rates, SECOND), 1);
    CHECK_EQUAL(mux_rates_next(rates, SECOND), 2);
    CHECK_EQUAL(mux_rates_next(rates, SECOND), NOBODY);
    CHECK_EQUAL(take(0, 100, SECOND), 100); /* an event came first */
    CHECK_EQUAL(take(0, 100, SECOND), 0);
    CHECK_EQUAL(take(2, 100, SECOND), 0);
    CHECK_EQUAL(take(1, 100, SECOND + 101 * MS), 50); /* its share */
    CHECK_EQUAL(mux_rates_next(rates, SECOND + 101 * MS), 2); /* its turn was in vain: it is the first again */
    CHECK_EQUAL(mux_rates_next(rates, 2 * SECOND), 0);
    CHECK_EQUAL(take(1, 100, 3 * SECOND), 100); /* a share is a turn's */
    mux_rates_close(rates);
}

TEST(what_a_turn_leaves_is_the_next_ones_at_once)
{
    rates = mux_rates_open();
    uint32_t which = bucket(1000, 100);
    for (uint32_t i = 0; i < 3; i++)
        limited(i, which);
    CHECK_EQUAL(take(0, 100, 0), 100);
    CHECK_EQUAL(take(1, 100, 0), 0);
    CHECK_EQUAL(take(2, 100, 0), 0);
    CHECK_EQUAL(mux_rates_next(rates, 51 * MS), 1);
    CHECK(mux_rates_due(rates) > 99 * MS);
    CHECK_EQUAL(take(1, 10, 51 * MS), 10);
    CHECK_EQUAL(mux_rates_due(rates), 60 * MS + 1);
    mux_rates_close(rates);
}

TEST(a_burst_may_be_a_single_byte)
{
    rates = mux_rates_open();
    limited(0, bucket(100, 1));
    CHECK_EQUAL(take(0, 100, 0), 1);
    CHECK_EQUAL(take(0, 100, 0), 0);
    CHECK_EQUAL(mux_rates_next(rates, 10 * MS + 1), 0);
    CHECK_EQUAL(take(0, 100, 10 * MS + 1), 1);
    mux_rates_close(rates);
}

TEST(of_several_rates_the_scarcest_counts)
{
    rates = mux_rates_open();
    uint32_t both[] = {bucket(1e6, 1e5), bucket(1e5, 1e4)}, slot[] = {0, 1};
    uint64_t got[2] = {0};
    CHECK_EQUAL(mux_rates_limit(rates, 0, both, 2), 0);
    limited(1, both[0]);
    flood(slot, got, 2, 65536, 0, 10 * SECOND);
    CHECK(got[0] > 970000 && got[0] <= 1010000);
    CHECK(got[1] > 8700000 && got[0] + got[1] <= 10100000);
    mux_rates_close(rates);
}

TEST(two_who_wait_for_two_buckets_in_either_order_both_go_on)
{
    rates = mux_rates_open();
    uint32_t there[] = {bucket(1e5, 1e4), bucket(1e5, 1e4)}, back[] = {there[1], there[0]}, slots[] = {0, 1};
    uint64_t got[2] = {0};
    CHECK_EQUAL(mux_rates_limit(rates, 0, there, 2), 0);
    CHECK_EQUAL(mux_rates_limit(rates, 1, back, 2), 0);
    flood(slots, got, 2, 65536, 0, 10 * SECOND);
    for (int i = 0; i < 2; i++)
        CHECK(got[i] > 400000 && got[i] < 600000);
    mux_rates_close(rates);
}

TEST(a_change_holds_at_once_for_who_waits)
{
    rates = mux_rates_open();
    uint32_t which = bucket(1, 100);
    limited(0, which);
    CHECK_EQUAL(take(0, 100, 0), 100);
    CHECK_EQUAL(take(0, 100, 0), 0);
    CHECK(mux_rates_due(rates) > 49 * SECOND);
    mux_rates_change(rates, which, 1000, 100, SECOND);
    CHECK(mux_rates_due(rates) <= SECOND + 50 * MS);
    mux_rates_change(rates, which, 1e6, 10000, SECOND);
    CHECK_EQUAL(mux_rates_next(rates, SECOND + 5 * MS), 0);
    mux_rates_change(rates, which, 1000, 10, SECOND + 5 * MS);
    CHECK_EQUAL(take(0, 100, SECOND + 5 * MS), 10); /* what was saved up is capped too */
    mux_rates_close(rates);
}

TEST(who_leaves_leaves_the_queue_in_order)
{
    for (uint32_t gone = 0; gone < 4; gone++) {
        rates = mux_rates_open();
        uint32_t which = bucket(1000, 100);
        for (uint32_t i = 0; i < 5; i++)
            limited(i, which);
        CHECK_EQUAL(take(4, 100, 0), 100);
        for (uint32_t i = 0; i < 4; i++)
            CHECK_EQUAL(take(i, 100, 0), 0);
        mux_rates_forget(rates, gone);
        for (uint32_t i = 0; i < 4; i++)
            if (i != gone)
                CHECK_EQUAL(mux_rates_next(rates, (i + 1) * SECOND), i);
        CHECK_EQUAL(mux_rates_next(rates, 100 * SECOND), NOBODY);
        CHECK_EQUAL(mux_rates_due(rates), INT64_MAX);
        mux_rates_close(rates);
    }
}

TEST(the_next_due_of_many_buckets_is_found_and_lost_in_any_order)
{
    enum { MANY = 500 };
    rates = mux_rates_open();
    for (uint32_t i = 0; i < MANY; i++) {
        limited(i, bucket(100 + i * 7919 % MANY, 100));
        CHECK_EQUAL(take(i, 100, 0), 100);
        CHECK_EQUAL(take(i, 100, 0), 0);
    }
    for (uint32_t i = 0; i < MANY; i += 3)
        mux_rates_forget(rates, i * 31 % MANY);
    int64_t before = 0;
    uint32_t left = 0;
    for (int64_t due; (due = mux_rates_due(rates)) != INT64_MAX; before = due, left++) {
        CHECK(due >= before);
        CHECK_EQUAL(mux_rates_next(rates, due - 1), NOBODY);
        CHECK(mux_rates_next(rates, due) != NOBODY);
    }
    CHECK_EQUAL(left, MANY - (MANY + 2) / 3);
    mux_rates_close(rates);
}

TEST(a_bucket_lives_until_its_last_user_is_gone_and_is_used_again)
{
    rates = mux_rates_open();
    uint32_t which = bucket(1000, 100);
    limited(0, which);
    limited(1, which);
    mux_rates_drop(rates, which);
    CHECK(mux_rates_has(rates, which));
    CHECK_EQUAL(take(0, 500, 0), 100);
    CHECK_EQUAL(mux_rates_limit(rates, 0, &which, 1), 0); /* by itself */
    CHECK_EQUAL(mux_rates_limit(rates, 0, NULL, 0), 0);
    CHECK(mux_rates_has(rates, which));
    mux_rates_forget(rates, 1);
    CHECK(!mux_rates_has(rates, which));
    for (int i = 0; i < 10000; i++) { /* the table does not grow */
        CHECK_EQUAL(bucket(1000, 100), which);
        mux_rates_drop(rates, which);
    }
    CHECK(!mux_rates_has(rates, which + 1));
    mux_rates_close(rates);
}

TEST(without_memory_nothing_changes)
{
    rates = mux_rates_open();
    for (long nth = 1; nth <= 2; nth++) {
        mux_fault(MUX_CALL_ALLOCATE, nth, 0, 12);
        CHECK_EQUAL(mux_rates_add(rates, 1000, 100, 0), -12);
    }
    uint32_t which = bucket(1000, 100), other = bucket(2000, 100);
    limited(0, which);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, 12);
    CHECK_EQUAL(mux_rates_limit(rates, 100000, &other, 1), -12);
    mux_rates_drop(rates, other);
    CHECK(!mux_rates_has(rates, other)); /* who was not let in does not count */
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, 12);
    CHECK(!mux_rates_open());
    mux_rates_close(rates);
}
