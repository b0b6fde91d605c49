/* The slot table: names that never match again, slots that never move. */
#include "check.h"
#include "slots.h"
#include "syscalls.h"

TEST(a_slot_is_found_by_its_name_until_it_is_given_back)
{
    mux_slots slots;
    CHECK_EQUAL(mux_slots_open(&slots, 10), 0);
    mux_slot *slot = mux_slots_take(&slots);
    slot->state = MUX_OPEN;
    uint32_t index = slot->index, generation = slot->generation;
    CHECK(mux_slots_find(&slots, index, generation) == slot);
    mux_slots_give_back(&slots, slot);
    CHECK(!mux_slots_find(&slots, index, generation));
    mux_slots_close(&slots);
}

TEST(a_stale_generation_never_names_the_next_life)
{
    mux_slots slots;
    CHECK_EQUAL(mux_slots_open(&slots, 1), 0);
    uint32_t before = 0;
    for (int life = 0; life < 1000; life++) {
        mux_slot *slot = mux_slots_take(&slots);
        slot->state = MUX_OPEN;
        CHECK_EQUAL(slot->index, 0);
        CHECK(slot->generation > before);
        CHECK(!mux_slots_find(&slots, 0, before));
        before = slot->generation;
        mux_slots_give_back(&slots, slot);
    }
    mux_slots_close(&slots);
}

TEST(a_slot_never_moves_as_the_table_grows)
{
    enum { MANY = 5000 };
    static mux_slot *taken[MANY];
    mux_slots slots;
    CHECK_EQUAL(mux_slots_open(&slots, MANY), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        taken[i] = mux_slots_take(&slots);
        CHECK_EQUAL(taken[i]->index, i);
    }
    for (uint32_t i = 0; i < MANY; i++)
        CHECK(mux_slots_at(&slots, i) == taken[i]);
    CHECK(!mux_slots_take(&slots)); /* at the cap */
    mux_slots_close(&slots);
}

TEST(names_that_were_never_given_find_nothing)
{
    mux_slots slots;
    CHECK_EQUAL(mux_slots_open(&slots, 10), 0);
    CHECK(!mux_slots_find(&slots, 0, 0));
    CHECK(!mux_slots_find(&slots, 0, 1));
    CHECK(!mux_slots_find(&slots, 4000000000u, 1));
    mux_slots_close(&slots);
}

TEST(no_memory_is_reported_and_leaves_the_table_usable)
{
    mux_slots slots;
    CHECK_EQUAL(mux_slots_open(&slots, 3000), 0);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, 12);
    CHECK(!mux_slots_take(&slots));
    CHECK(mux_slots_take(&slots));
    mux_slots_close(&slots);
}
