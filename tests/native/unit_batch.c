/* The batch: its bound, its bytes, and those that have ended. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "check.h"
#include "syscalls.h"

TEST(a_batch_is_full_while_one_more_connection_still_fits)
{
    mux_batch batch;
    CHECK_EQUAL(mux_batch_open(&batch), 0);
    mux_batch_begin(&batch);
    while (!mux_batch_full(&batch))
        mux_batch_add(&batch, batch.count, MUX_EV_EOF, 0);
    CHECK_EQUAL(batch.count, MUX_EVENTS - MUX_EVENTS_SPARE + 1);
    mux_batch_begin(&batch);
    while (!mux_batch_full(&batch))
        mux_batch_bytes(&batch, batch.arena + batch.used, 1000);
    CHECK(batch.used <= MUX_ARENA - 1000);
    mux_batch_close(&batch);
}

TEST(who_adds_without_asking_ends_the_program_and_writes_nothing)
{
    pid_t child = fork();
    if (!child) {
        mux_batch batch;
        CHECK_EQUAL(mux_batch_open(&batch), 0);
        mux_batch_begin(&batch);
        for (;;)
            mux_batch_add(&batch, 0, MUX_EV_EOF, 0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST(bytes_are_where_their_event_says_wherever_they_came_from)
{
    mux_batch batch;
    CHECK_EQUAL(mux_batch_open(&batch), 0);
    mux_batch_begin(&batch);
    memcpy(batch.arena, "here", 4);
    mux_batch_add(&batch, 7, MUX_EV_DATA, 4);
    mux_batch_bytes(&batch, batch.arena, 4);
    mux_batch_add(&batch, 8, MUX_EV_DATA, 9);
    mux_batch_bytes(&batch, "from", 4);
    mux_batch_bytes(&batch, " afar", 5);
    CHECK(!memcmp(batch.arena + batch.events[0].data, "here", 4));
    CHECK(!memcmp(batch.arena + batch.events[1].data, "from afar", 9));
    mux_batch_close(&batch);
}

TEST(a_serial_number_goes_round_without_0)
{
    mux_batch batch;
    CHECK_EQUAL(mux_batch_open(&batch), 0);
    batch.serial = UINT32_MAX;
    mux_batch_begin(&batch);
    CHECK_EQUAL(batch.serial, 1);
    mux_batch_close(&batch);
}

TEST(those_that_have_ended_wait_in_order_from_batch_to_batch)
{
    mux_batch batch;
    mux_slots slots;
    CHECK_EQUAL(mux_batch_open(&batch), 0);
    CHECK_EQUAL(mux_slots_open(&slots, 5), 0);
    for (int i = 0; i < 5; i++) {
        mux_batch_begin(&batch);
        mux_batch_ended(&batch, &slots, mux_slots_take(&slots));
    }
    uint32_t at = batch.ended_first;
    for (uint32_t i = 0; i < 5; i++, at = mux_slots_at(&slots, at)->next)
        CHECK_EQUAL(at, i);
    CHECK_EQUAL(at, MUX_NONE);
    mux_slots_close(&slots);
    mux_batch_close(&batch);
}

TEST(no_memory_for_a_batch_is_reported)
{
    for (int nth = 1; nth <= 2; nth++) {
        mux_batch batch;
        mux_fault(MUX_CALL_ALLOCATE, nth, 0, 12);
        CHECK_EQUAL(mux_batch_open(&batch), -12);
        mux_batch_close(&batch);
    }
}
