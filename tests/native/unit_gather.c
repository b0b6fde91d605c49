/* Writes that cross together: in order, one send for each connection, or not at all. */
#include "loop_internal.h"
#include "scripted.h"

/* Put a write behind others, in the form of gather.h; the size of all. */
static size_t add(char *data, size_t size, uint32_t to, const char *bytes, size_t count)
{
    uint32_t head[] = {to, (uint32_t)count};
    memcpy(data + size, head, sizeof head);
    memcpy(data + size + sizeof head, bytes, count);
    return size + sizeof head + count;
}

static size_t gathered(char *data, size_t size, uint32_t to, const char *bytes)
{
    return add(data, size, to, bytes, strlen(bytes));
}

TEST(gathered_writes_reach_each_connection_in_order)
{
    begin(usual());
    int one = adopted(MUX_VERB_NONE, 1);
    uint32_t first = slot;
    int two = adopted(MUX_VERB_NONE, 1);
    script_window(script, two, 3);
    char data[100];
    size_t size = gathered(data, 0, first, "a");
    size = gathered(data, size, first, "bb");
    size = gathered(data, size, slot, "SECOND");
    size = gathered(data, size, first, "ccc");
    const uint32_t *left = mux_loop_left(loop);
    if (script_is_late) { /* nothing is taken at once */
        CHECK_EQUAL(mux_send_batch(loop, data, size), 2);
        CHECK_EQUAL(left[0], first);
        CHECK_EQUAL(left[1], 6);
        CHECK_EQUAL(left[2], slot);
        CHECK_EQUAL(left[3], 6);
    } else {
        CHECK_EQUAL(mux_send_batch(loop, data, size), 1);
        CHECK_EQUAL(left[0], slot);
        CHECK_EQUAL(left[1], 3);
    }
    CHECK(got(one, "abbccc"));
    CHECK(got(two, "SEC"));
    CHECK_EQUAL(mux_queued(loop, slot, generation), 3);
    end();
}

TEST(gathered_writes_may_cross_with_the_next_poll)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    script_window(script, peer, 2);
    char data[100];
    size_t size = gathered(data, 0, slot, "abc");
    CHECK_EQUAL(mux_loop_send_poll(loop, data, size, mux_fault_clock), 1);
    CHECK_EQUAL(mux_loop_events(loop)[0].kind, MUX_EV_QUEUED);
    CHECK_EQUAL(mux_loop_events(loop)[0].value, 1);
    CHECK_EQUAL(mux_loop_left(loop)[0], slot);
    CHECK_EQUAL(mux_loop_left(loop)[1], script_is_late ? 3 : 1);
    CHECK(got(peer, "ab"));
    end();
}

TEST(what_is_not_in_the_form_is_refused_whole)
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
    end();
}

TEST(no_more_writes_than_the_table_holds_cross_at_once)
{
    begin(usual());
    int peer = adopted(MUX_VERB_NONE, 1);
    static char many[(MUX_WRITES + 1) * 9];
    size_t size = 0, arrived;
    for (int i = 0; i <= MUX_WRITES; i++)
        size = gathered(many, size, slot, "x");
    CHECK_EQUAL(mux_send_batch(loop, many, size), -EINVAL);
    CHECK_EQUAL(mux_send_batch(loop, many, size - 9), script_is_late);
    settle();
    (void)script_got(script, peer, &arrived);
    CHECK_EQUAL(arrived, MUX_WRITES);
    end();
}

TEST(what_one_connection_wrote_goes_in_pieces_where_it_fills_the_scratch)
{
    begin(usual());
    int one = adopted(MUX_VERB_NONE, 1);
    uint32_t first = slot;
    int two = adopted(MUX_VERB_NONE, 1);
    const size_t sizes[] = {MUX_SCRATCH / 2, MUX_SCRATCH / 2, 1, MUX_SCRATCH + 1, 3};
    static char data[3 * MUX_SCRATCH], bytes[MUX_SCRATCH + 1];
    size_t size = 0, all = 0, arrived;
    for (int i = 0; i < 5; i++) {
        memset(bytes, 'a' + i, sizeof bytes);
        size = add(data, size, first, bytes, sizes[i]);
        size = gathered(data, size, slot, "xy");
        all += sizes[i];
    }
    CHECK(mux_send_batch(loop, data, size) >= 0);
    CHECK(got(two, "xyxyxyxyxy"));
    const char *out = script_got(script, one, &arrived);
    CHECK_EQUAL(arrived, all);
    for (int i = 0; i < 5; i++)
        for (size_t j = 0; j < sizes[i]; j++)
            CHECK_EQUAL(*out++, 'a' + i);
    end();
}

