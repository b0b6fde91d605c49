#include "gather.h"

#include <string.h>

#include "connection.h"

typedef struct part {
    const char *data;
    uint32_t slot, size;
    uint32_t next, last; /* of its connection's: the next part or MUX_NONE; of a first part: the last */
} part;

struct mux_gather {
    uint32_t left[2 * MUX_WRITES];
    part parts[MUX_WRITES];
};

mux_gather *mux_gather_new(void)
{
    return mux_sys_allocate(1, sizeof(mux_gather));
}

const uint32_t *mux_loop_left(const mux_loop *loop)
{
    return loop->gather->left;
}

/* Find the parts; how many, or -EINVAL. */
static int64_t parse(const mux_loop *loop, const char *data, size_t size)
{
    uint32_t count = 0;
    uint32_t head[2];
    for (size_t at = 0; at < size; at += head[1]) {
        if (count == MUX_WRITES || size - at < sizeof head)
            return -EINVAL;
        memcpy(head, data + at, sizeof head);
        at += sizeof head;
        if (head[0] >= loop->slots.used || head[1] > size - at)
            return -EINVAL;
        loop->gather->parts[count++] = (part){.data = data + at, .slot = head[0], .size = head[1]};
    }
    return count;
}

/* Chain the parts of each connection to its first one. */
static void chain(const mux_loop *loop, uint32_t count)
{
    part *parts = loop->gather->parts;
    for (uint32_t i = 0; i < count; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, parts[i].slot);
        parts[i].next = MUX_NONE;
        parts[i].last = i;
        if (slot->gathered) {
            part *first = &parts[slot->gathered - 1];
            parts[first->last].next = i;
            first->last = i;
        } else {
            slot->gathered = (uint16_t)(i + 1);
        }
    }
}

/* Send what one connection wrote; how much is queued afterwards. */
static int64_t send_chain(mux_loop *loop, mux_slot *slot, const part *each)
{
    const part *parts = loop->gather->parts;
    if (each->next == MUX_NONE)
        return mux_conn_send(loop, slot, each->data, each->size);
    size_t joined = 0;
    int64_t queued = 0;
    for (;; each = &parts[each->next]) {
        if (joined + each->size > MUX_SCRATCH) {
            queued = mux_conn_send(loop, slot, loop->scratch, joined);
            joined = 0;
        }
        if (each->size > MUX_SCRATCH) {
            queued = mux_conn_send(loop, slot, each->data, each->size);
        } else {
            memcpy(loop->scratch + joined, each->data, each->size);
            joined += each->size;
        }
        if (each->next == MUX_NONE)
            return joined ? mux_conn_send(loop, slot, loop->scratch, joined) : queued;
    }
}

int mux_gather_send(mux_loop *loop, const char *data, size_t size)
{
    int stored = 0;
    int64_t count = parse(loop, data, size);
    if (count <= 0)
        return (int)count;
    mux_loop_look(loop);
    chain(loop, (uint32_t)count);
    for (uint32_t i = 0; i < count; i++) {
        const part *each = &loop->gather->parts[i];
        mux_slot *slot = mux_slots_at(&loop->slots, each->slot);
        if (slot->gathered != i + 1)
            continue; /* it went with the first */
        slot->gathered = 0;
        int64_t queued = send_chain(loop, slot, each);
        if (queued > 0) {
            loop->gather->left[2 * stored] = each->slot;
            loop->gather->left[2 * stored++ + 1] = queued < UINT32_MAX ? (uint32_t)queued : UINT32_MAX;
        }
    }
    return stored;
}

int mux_send_batch(mux_loop *loop, const char *data, size_t size)
{
    if (mux_loop_foreign(loop))
        return -EPERM;
    return loop ? mux_gather_send(loop, data, size) : 0;
}
