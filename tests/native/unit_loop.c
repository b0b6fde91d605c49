/* The loop on the scripted backend: what a connection lives through, event by event. */
#include "loop_internal.h"
#include "scripted.h"

TEST(bytes_come_as_one_event_and_go_without_one)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_arrive(memory, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 5);
    CHECK(!memcmp(mux_loop_arena(loop) + mux_loop_events(loop)[0].data, "hello", 5));
    CHECK_EQUAL(mux_send(loop, slot, generation, "HELLO", 5), 0);
    CHECK(got(peer, "HELLO"));
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(a_connection_has_one_data_event_a_batch)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    static char many[10000];
    memory_arrive(memory, peer, many, sizeof many);
    for (int left = sizeof many; left > 0; left -= 4096) {
        CHECK_EQUAL(poll_now(), 1);
        expect(0, MUX_EV_DATA, left < 4096 ? left : 4096);
    }
    end();
}

TEST(eof_comes_after_the_data)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_arrive(memory, peer, "bye", 3);
    memory_end(memory, peer);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DATA, 3);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_EOF, 0);
    CHECK_EQUAL(poll_now(), 0);
    end();
}

TEST(a_held_connection_brings_nothing_until_it_is_let_go)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    CHECK_EQUAL(mux_hold(loop, slot, generation, 1), 0);
    memory_arrive(memory, peer, "later", 5);
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
    memory_window(memory, peer, 500);
    CHECK_EQUAL(mux_send(loop, slot, generation, many, sizeof many), 2500);
    CHECK_EQUAL(mux_send(loop, slot, generation, "end", 3), 2503);
    memory_window(memory, peer, 2410);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DRAINED, 93);
    memory_window(memory, peer, 1000);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_DRAINED, 0);
    size_t size;
    const char *out = memory_got(memory, peer, &size);
    CHECK_EQUAL(size, 3003);
    CHECK(!memcmp(out + 3000, "end", 3));
    end();
}

TEST(close_waits_for_the_queue_and_abort_does_not)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 0);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 5);
    CHECK_EQUAL(mux_close(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    memory_window(memory, peer, 100);
    CHECK_EQUAL(poll_now(), 2);
    expect(0, MUX_EV_DRAINED, 0);
    expect(1, MUX_EV_LOST, 0);
    CHECK(got(peer, "hello"));
    CHECK(!memory_released(memory, peer));
    CHECK_EQUAL(mux_release(loop, slot, generation), 0);
    CHECK(memory_released(memory, peer));

    peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 0);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 5);
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
    CHECK_EQUAL(mux_release(loop, old, before), -ESTALE);
    CHECK(got(next, "") && !memory_ended(memory, next));
    end();
}

TEST(write_eof_follows_what_was_written)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 2);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 3);
    CHECK_EQUAL(mux_write_eof(loop, slot, generation), 0);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(!memory_ended(memory, peer));
    memory_window(memory, peer, 100);
    CHECK_EQUAL(poll_now(), 1);
    CHECK(memory_ended(memory, peer));
    CHECK(got(peer, "hello"));
    end();
}

TEST(a_reset_is_told_with_its_errno_or_counted)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_break(memory, peer, ECONNRESET);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ECONNRESET);
    int unseen = adopted(MUX_VERB_ECHO, 0);
    memory_break(memory, unseen, ECONNRESET);
    CHECK_EQUAL(poll_now(), 0);
    CHECK_EQUAL(stats.errors[ECONNRESET], 1);
    CHECK(memory_released(memory, unseen));
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
        memory_arrive(memory, busy, "x", 1);
        CHECK_EQUAL(mux_loop_poll(loop, mux_fault_clock + SECOND / 10), 0);
    }
    CHECK(memory_released(memory, quiet));
    CHECK(!memory_released(memory, busy));
    CHECK_EQUAL(stats.idle, 1);
    end();
}

TEST(gathered_writes_reach_each_connection_in_order)
{
    begin(usual());
    int one = adopted(MUX_VERB_NONE, 1);
    uint32_t first = slot;
    int two = adopted(MUX_VERB_NONE, 1);
    uint32_t second = slot;
    memory_window(memory, two, 3);
    char data[100];
    size_t size = gathered(data, 0, first, "a");
    size = gathered(data, size, first, "bb");
    size = gathered(data, size, second, "SECOND");
    size = gathered(data, size, first, "ccc");
    CHECK_EQUAL(mux_send_batch(loop, data, size), 1);
    CHECK_EQUAL(mux_loop_left(loop)[0], second);
    CHECK_EQUAL(mux_loop_left(loop)[1], 3);
    CHECK(got(one, "abbccc"));
    CHECK(got(two, "SEC"));
    end();
}

TEST(gathered_writes_may_cross_with_the_next_poll)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, peer, 2);
    char data[100];
    size_t size = gathered(data, 0, slot, "abc");
    memory_arrive(memory, peer, "x", 1);
    CHECK_EQUAL(mux_loop_send_poll(loop, data, size, mux_fault_clock), 2);
    expect(0, MUX_EV_QUEUED, 1);
    expect(1, MUX_EV_DATA, 1);
    CHECK_EQUAL(mux_loop_left(loop)[0], slot);
    CHECK_EQUAL(mux_loop_left(loop)[1], 1);
    CHECK(got(peer, "ab"));
    end();
}

TEST(gathered_writes_that_are_not_in_their_form_are_refused_whole)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    char data[100];
    size_t good = gathered(data, 0, slot, "abc"), size = gathered(data, good, slot, "defg");
    CHECK_EQUAL(mux_send_batch(loop, data, size - 1), -EINVAL);
    CHECK_EQUAL(mux_send_batch(loop, data, good + 7), -EINVAL);
    size = gathered(data, good, slot + 1, "to nobody");
    CHECK_EQUAL(mux_send_batch(loop, data, size), -EINVAL);
    CHECK_EQUAL(mux_loop_send_poll(loop, data, size, mux_fault_clock), -EINVAL);
    CHECK(got(peer, ""));
    CHECK_EQUAL(mux_send_batch(loop, data, 0), 0);
    static char many[(MUX_WRITES + 1) * 9];
    size = 0;
    for (int i = 0; i <= MUX_WRITES; i++)
        size = gathered(many, size, slot, "x");
    CHECK_EQUAL(mux_send_batch(loop, many, size), -EINVAL);
    CHECK_EQUAL(mux_send_batch(loop, many, size - 9), 0);
    size_t all;
    (void)memory_got(memory, peer, &all);
    CHECK_EQUAL(all, MUX_WRITES);
    end();
}

TEST(gathered_writes_that_fill_the_scratch_go_in_pieces)
{
    begin(usual());
    int one = adopted(MUX_VERB_NONE, 1), size_of[] = {MUX_SCRATCH / 2, MUX_SCRATCH / 2, 1, MUX_SCRATCH + 1, 3};
    uint32_t first = slot, its_generation = generation;
    int two = adopted(MUX_VERB_NONE, 1);
    memory_window(memory, one, 5);
    static char data[3 * MUX_SCRATCH];
    size_t size = 0, all = 0;
    for (int i = 0; i < 5; i++) {
        uint32_t head[] = {first, (uint32_t)size_of[i]};
        memcpy(data + size, head, sizeof head);
        memset(data + size + sizeof head, 'a' + i, head[1]);
        size += sizeof head + head[1];
        all += head[1];
        if (i < 2)
            size = gathered(data, size, slot, "xy");
    }
    CHECK_EQUAL(mux_send_batch(loop, data, size), 1);
    CHECK_EQUAL(mux_loop_left(loop)[1], all - 5);
    CHECK(got(two, "xyxy"));
    memory_window(memory, one, all);
    while (mux_queued(loop, first, its_generation))
        CHECK(poll_now() >= 0);
    size_t arrived;
    const char *out = memory_got(memory, one, &arrived);
    CHECK_EQUAL(arrived, all);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < size_of[i]; j++)
            CHECK_EQUAL(*out++, 'a' + i);
    end();
}

TEST(a_full_batch_leaves_the_rest_for_the_next)
{
    mux_options options = usual();
    options.read_chunk = 65536;
    begin(options);
    static char many[60000];
    for (int i = 0; i < 20; i++)
        memory_arrive(memory, adopted(MUX_VERB_NONE, 1), many, sizeof many);
    uint64_t bytes = 0;
    int polls = 0;
    for (; bytes < 20 * sizeof many; polls++) {
        int count = poll_now();
        CHECK(count > 0);
        for (int i = 0; i < count; i++)
            bytes += (uint64_t)mux_loop_events(loop)[i].value;
    }
    CHECK_EQUAL(bytes, 20 * sizeof many);
    CHECK(polls >= 4); /* 1.2 MB through an arena of 256 KiB */
    end();
}

TEST(a_poll_keeps_its_deadline_and_returns_when_woken)
{
    begin(usual());
    int64_t until = mux_fault_clock + 5 * SECOND;
    CHECK_EQUAL(mux_loop_poll(loop, until), 0);
    CHECK(mux_fault_clock >= until);
    memory_wake(memory);
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
    memory_window(memory, peer, 0);
    mux_fault(MUX_CALL_ALLOCATE, 1, 0, ENOMEM);
    CHECK_EQUAL(mux_send(loop, slot, generation, "hello", 5), 0);
    CHECK_EQUAL(poll_now(), 1);
    expect(0, MUX_EV_LOST, ENOMEM);
    memory_arrive(memory, other, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(other, "hello"));
    end();
}
