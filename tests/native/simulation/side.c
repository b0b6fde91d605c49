/* The Python side: what native_transport.py and native_engine.py call, at any moment they may. */
#include <errno.h>
#include <string.h>

#include "fail.h"
#include "model.h"

#define WRITE_MOST 4096
#define RECEIVED_MOST 1024 /* MUX_SCRATCH, as the simulation compiles it */

static char bytes[16 * (WRITE_MOST + 8)]; /* more than one batch may have kept */

bool side_alive(const conn *of)
{
    return of->side == SIDE_OPEN && !of->closed && !of->aborted;
}

static bool named(const conn *of) /* its name means something to the core */
{
    return of->side != SIDE_NONE && of->side != SIDE_OVER && of->side != SIDE_UNSEEN;
}

/* Python's calls never fail on a name that is good. */
static void must(int64_t result, const conn *of, const char *call)
{
    if (result < 0)
        fail("refused", "%s of connection %d says %lld", call, conn_index(of), (long long)result);
}

void side_begin(conn *of, uint32_t slot, uint32_t generation, uint8_t side)
{
    if (slot >= SLOTS_MOST)
        fail("slot", "slot %u is beyond the table", slot);
    if (model.owner[slot] >= 0)
        fail("slot", "slot %u is given to connection %d and is connection %d's", slot, conn_index(of),
             model.owner[slot]);
    of->slot = slot;
    of->generation = generation;
    of->side = side;
    of->high = model.options.high;
    of->low = model.options.low;
    model.owner[slot] = (int16_t)conn_index(of);
    int handle = mux_handle(model.loop, slot, generation);
    if (handle < 0)
        fail("slot", "connection %d has no handle", conn_index(of));
    of->file = world_file(handle);
    TRACE("  connection %d: slot %u generation %u fd %d", conn_index(of), slot, generation, handle);
}

/* -- writing */

void side_gather(conn *of, uint32_t size)
{
    if (!side_alive(of) || of->verb || of->eof_written || !size)
        return;
    if (model.gathered_count == GATHERED_MOST)
        side_flush();
    model.gathered[model.gathered_count] = conn_index(of);
    model.gathered_size[model.gathered_count++] = (int)(size < WRITE_MOST ? size : WRITE_MOST);
}

/* What Python writes next: put at `to`, and the remote end is to get it. */
static void write_next(conn *of, char *to, uint32_t size)
{
    int source = 2 * conn_index(of) + 1;
    stream_fill(to, source, of->written, size);
    remote_expect(of, source, of->written, size);
    of->written += size;
}

/* `polled`: since then C may have sent what was queued. */
static void written(conn *of, int64_t queued, bool polled)
{
    must(queued, of, "send");
    uint64_t left = of->written - world_taken(of->file);
    if (queued && world_simulated && !polled && (uint64_t)queued != left)
        fail("queue", "connection %d has %lld queued, not %llu", conn_index(of), (long long)queued,
             (unsigned long long)left);
    if (!queued && world_simulated && left)
        of->doomed = true; /* it is dropped: its end has to be told */
    of->pending = of->pending || queued;
    of->choked = of->choked || queued > (int64_t)of->high;
}

static void put(conn *of, uint32_t size)
{
    write_next(of, bytes, size);
    int64_t queued = mux_send(model.loop, of->slot, of->generation, bytes, size);
    TRACE("  send of %u to connection %d: %lld", size, conn_index(of), (long long)queued);
    written(of, queued, false);
}

/* Many small writes in one crossing; each is told of, or has nothing queued. */
static struct {
    int conns[GATHERED_MOST];
    uint32_t sizes[GATHERED_MOST];
    int count;
} crossing;

size_t side_gathered(const char **data)
{
    size_t size = 0;
    crossing.count = model.gathered_count;
    model.gathered_count = 0;
    for (int i = 0; i < crossing.count; i++) {
        crossing.conns[i] = model.gathered[i];
        crossing.sizes[i] = (uint32_t)model.gathered_size[i];
        uint32_t head[] = {conn_at(crossing.conns[i])->slot, crossing.sizes[i]};
        memcpy(bytes + size, head, sizeof head);
        size += sizeof head;
        write_next(conn_at(crossing.conns[i]), bytes + size, crossing.sizes[i]);
        size += crossing.sizes[i];
    }
    *data = bytes;
    return size;
}

void side_crossed(int told, bool polled)
{
    const uint32_t *left = mux_loop_left(model.loop);
    if (told < 0)
        fail("send", "gathered writes: %d", told);
    for (int i = 0; i < crossing.count; i++) {
        conn *of = conn_at(crossing.conns[i]);
        int64_t queued = 0;
        for (int j = 0; j < told; j++)
            if (of->slot == left[2 * j])
                queued = left[2 * j + 1];
        TRACE("  write of %u to connection %d crosses: %lld", crossing.sizes[i], crossing.conns[i],
              (long long)queued);
        written(of, queued, polled);
    }
    crossing.count = 0;
}

static void put_batch(void)
{
    const char *data;
    size_t size = side_gathered(&data);
    side_crossed(mux_send_batch(model.loop, data, size), false);
}

void side_flush(void)
{
    int count = model.gathered_count;
    if (count && model.gathered_size[0] % 2) { /* Python has both ways: where callbacks are slow, each alone */
        put_batch();
        return;
    }
    model.gathered_count = 0;
    for (int i = 0; i < count; i++)
        put(conn_at(model.gathered[i]), (uint32_t)model.gathered_size[i]);
}

void side_send(conn *of, uint32_t size)
{
    if (!side_alive(of) || of->verb || of->eof_written)
        return;
    side_flush();
    if (side_alive(of))
        put(of, size < WRITE_MOST ? size : WRITE_MOST);
}

void side_eof(conn *of)
{
    side_flush();
    if (!side_alive(of) || of->verb || of->eof_written)
        return;
    of->eof_written = true;
    TRACE("  write_eof of connection %d", conn_index(of));
    must(mux_write_eof(model.loop, of->slot, of->generation), of, "write_eof");
}

void side_marks(conn *of, uint32_t high, uint32_t low)
{
    side_flush();
    if (!side_alive(of))
        return;
    of->high = high;
    of->low = low;
    of->most_queued += of->most_queued ? high : 0;
    must(mux_marks(model.loop, of->slot, of->generation, high, low), of, "marks");
    int64_t queued = mux_queued(model.loop, of->slot, of->generation);
    must(queued, of, "queued");
    of->choked = of->choked || queued > (int64_t)high;
}

/* Under a verb at most the high-water mark and what was received at once are queued, beside what was
 * before. */
static void may_queue(conn *of, uint64_t more)
{
    int64_t queued = mux_queued(model.loop, of->slot, of->generation);
    uint32_t chunk = model.options.read_chunk > RECEIVED_MOST ? model.options.read_chunk : RECEIVED_MOST;
    of->most_queued = (queued > (int64_t)of->high ? (uint64_t)queued : of->high) + more + chunk;
}

/* -- reading */

void side_hold(conn *of, bool on)
{
    if (!side_alive(of) || of->verb)
        return;
    TRACE("  hold of connection %d: %d", conn_index(of), on);
    if (on && !of->held)
        of->held_batch = model.batch;
    of->held = on;
    if (!on)
        of->kept_from = of->seen; /* what was kept is delivered now */
    must(mux_hold(model.loop, of->slot, of->generation, on), of, "hold");
    if (!on && of->eof_kept) {
        of->eof_kept = false;
        of->eof_heard = true;
        if (conn_index(of) % 2)
            side_close(of); /* eof_received() says so */
    }
}

static uint64_t kept(conn *of)
{
    uint64_t size = of->seen - of->kept_from;
    return size < sizeof bytes ? size : sizeof bytes;
}

void side_verb(conn *of, int verb)
{
    side_flush();
    if (!side_alive(of) || of->verb || of->eof_written)
        return;
    uint64_t size = kept(of);
    TRACE("  verb %d of connection %d, kept %llu", verb, conn_index(of), (unsigned long long)size);
    stream_fill(bytes, 2 * conn_index(of), of->kept_from, (size_t)size);
    of->verb = (uint8_t)verb;
    of->held = false;
    may_queue(of, size);
    if (verb == MUX_VERB_ECHO)
        remote_expect(of, 2 * conn_index(of), of->kept_from, UNLIMITED);
    must(mux_verb(model.loop, of->slot, of->generation, verb, bytes, (size_t)size), of, "verb");
    of->kept_from = of->seen;
    if (of->eof_kept || of->eof_heard)
        side_close(of);
}

void side_relay(conn *of, conn *peer)
{
    static char back[sizeof bytes];
    side_flush();
    if (of == peer || !side_alive(of) || !side_alive(peer) || of->verb || peer->verb ||
        of->eof_written || peer->eof_written)
        return;
    conn *both[2] = {of, peer};
    uint64_t sizes[2];
    char *kept_bytes[2] = {bytes, back};
    uint32_t first = rng_below(&model.chance, 3) ? 0 : rng_below(&model.chance, 300);
    for (int i = 0; i < 2; i++) {
        sizes[i] = kept(both[i]);
        uint64_t head = i ? 0 : first; /* relay(first=…): for the peer, before its bytes */
        stream_fill(kept_bytes[i], 2 * conn_index(both[!i]) + 1, both[!i]->written, (size_t)head);
        stream_fill(kept_bytes[i] + head, 2 * conn_index(both[i]), both[i]->kept_from, (size_t)sizes[i]);
        sizes[i] += head;
    }
    may_queue(of, sizes[1]);
    may_queue(peer, sizes[0]);
    int result = mux_relay(model.loop, of->slot, of->generation, peer->slot, peer->generation, bytes,
                           (size_t)sizes[0], back, (size_t)sizes[1]);
    TRACE("  relay of connection %d with %d: %d", conn_index(of), conn_index(peer), result);
    if (result == -EINVAL)
        return; /* the core knows already that one of them is lost: relay() raises ValueError */
    must(result, of, "relay");
    remote_expect(peer, 2 * conn_index(peer) + 1, peer->written, first);
    peer->written += first;
    for (int i = 0; i < 2; i++) {
        conn *side = both[i];
        remote_expect(both[!i], 2 * conn_index(side), side->kept_from, UNLIMITED);
        side->verb = MUX_VERB_RELAY;
        side->peer = conn_index(both[!i]);
        side->held = false;
        side->kept_from = side->seen;
    }
    for (int i = 0; i < 2; i++) {
        conn *side = both[i];
        if (side->eof_heard || side->eof_kept)
            must(mux_relay_more(model.loop, side->slot, side->generation, "", 0), side, "relay_more");
        side->eof_heard = side->eof_heard || side->eof_kept;
        side->eof_kept = false;
    }
    for (int i = 0; i < 2; i++) {
        conn *side = both[i];
        if (rng_below(&model.chance, 3) || !side_alive(side))
            continue;
        result = mux_forget(model.loop, side->slot, side->generation);
        if (result && result != -EBUSY)
            must(result, side, "forget");
        TRACE("  forget of connection %d: %d", conn_index(side), result);
        if (result)
            continue;
        side->side = SIDE_UNSEEN;
        model.owner[side->slot] = -1;
    }
}

/* -- the end */

static void note_closed(conn *of)
{
    of->closed = true;
    of->died_batch = model.batch;
    of->closed_time = world_now();
    if (world_simulated && of->closed_at == UNLIMITED)
        of->closed_at = world_received(of->file);
}

void side_close(conn *of)
{
    side_flush();
    if (!side_alive(of))
        return;
    TRACE("  close of connection %d", conn_index(of));
    note_closed(of);
    of->side = SIDE_CLOSING;
    if (of->verb == MUX_VERB_RELAY && of->peer >= 0) {
        conn *peer = conn_at(of->peer);
        if (peer->side == SIDE_OPEN || peer->side == SIDE_UNSEEN)
            note_closed(peer);
        if (peer->side == SIDE_OPEN)
            peer->side = SIDE_CLOSING;
    }
    must(mux_close(model.loop, of->slot, of->generation), of, "close");
}

void side_abort(conn *of)
{
    side_flush();
    if (!named(of) || of->side == SIDE_LOST)
        return;
    TRACE("  abort of connection %d", conn_index(of));
    of->aborted = true;
    of->died_batch = model.batch;
    if (of->verb == MUX_VERB_RELAY && of->peer >= 0)
        conn_at(of->peer)->aborted = true;
    int reset = rng_below(&model.chance, 3) == 0;
    must(mux_abort(model.loop, of->slot, of->generation, reset), of, "abort");
}

void side_release(conn *of)
{
    if (of->side != SIDE_LOST)
        return;
    TRACE("  release of connection %d", conn_index(of));
    of->side = SIDE_OVER;
    model.owner[of->slot] = -1;
    must(mux_release(model.loop, of->slot, of->generation), of, "release");
}

void side_refuse(conn *of)
{
    TRACE("  refuse of connection %d", conn_index(of));
    of->refused = true;
    of->side = SIDE_UNSEEN;
    model.owner[of->slot] = -1;
    model.refused_batch[of->slot] = model.batch;
    must(mux_refuse(model.loop, of->slot, of->generation), of, "refuse");
}

void side_serve(conn *of)
{
    of->side = SIDE_OPEN;
    must(mux_hold(model.loop, of->slot, of->generation, 0), of, "hold");
}
