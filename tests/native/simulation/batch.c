/* A poll, and its events: what each may say, and what the Python side does then. */
#include <errno.h>
#include <string.h>

#include "fail.h"
#include "model.h"

#define MS INT64_C(1000000)

static const char *const kinds[] = {"?",       "ACCEPTED", "DATA",    "EOF",
                                    "DRAINED", "LOST",     "TROUBLE", "CONNECTED"};

/* -- what Python does when it hears something */

static conn *any_open(void)
{
    for (int i = 0; i < 4; i++) {
        conn *one = conn_at((int)rng_below(&model.chance, (uint32_t)model.conn_count));
        if (side_alive(one) && !one->verb)
            return one;
    }
    return NULL;
}

static void react(conn *of)
{
    if (!model.reacts || model.ending || !side_alive(of))
        return;
    uint32_t size = 1 + rng_below(&model.chance, rng_below(&model.chance, 4) ? 200 : 3000);
    conn *other;
    switch (rng_below(&model.chance, 40)) {
    case 0: case 1: case 2: case 3: case 4: case 5:
        side_gather(of, size);
        break;
    case 6: case 7: case 8:
        side_send(of, size);
        break;
    case 9: case 10:
        side_hold(of, true);
        break;
    case 11:
        side_verb(of, MUX_VERB_ECHO);
        break;
    case 12:
        side_verb(of, MUX_VERB_DISCARD);
        break;
    case 13: case 14:
        if ((other = any_open()))
            side_relay(of, other);
        break;
    case 15: case 22: case 23:
        side_close(of);
        break;
    case 16:
        side_abort(of);
        break;
    case 17:
        side_eof(of);
        break;
    case 18: case 19:
        if ((other = any_open()))
            side_gather(other, size);
        break;
    case 20:
        if ((other = any_open()))
            side_close(other);
        break;
    case 21:
        if ((other = any_open()))
            side_abort(other);
        break;
    default:
        break;
    }
}

/* -- events */

static conn *accepted(const mux_event *event)
{
    struct mux_accepted about;
    const char *at = mux_loop_arena(model.loop) + event->data;
    memcpy(&about, at, sizeof about);
    uint16_t port = world_port_in(at + sizeof about);
    for (int i = model.conn_count - 1; i >= 0; i--) { /* a real kernel uses a port again */
        conn *of = conn_at(i);
        if (of->listener < 0 || of->port != port || of->side != SIDE_NONE || of->verb)
            continue;
        side_begin(of, event->slot, (uint32_t)event->value, SIDE_OPEN);
        if (model.listeners[of->listener].slot != (int64_t)about.listener ||
            (model.reacts && !rng_below(&model.chance, 8)))
            side_refuse(of);
        else
            react(of);
        return of;
    }
    fail("events", "port %u is accepted, and nobody dials any more", port);
}

static void data(conn *of, const mux_event *event)
{
    uint32_t size = (uint32_t)event->value;
    if (event->value <= 0 || size > model.options.read_chunk ||
        event->data + size > mux_loop_arena_size(model.loop))
        fail("events", "connection %d: DATA of %d bytes", conn_index(of), event->value);
    size_t wrong = stream_wrong(mux_loop_arena(model.loop) + event->data, 2 * conn_index(of), of->seen, size);
    if (wrong || of->seen + size > of->sent)
        fail("bytes", "connection %d: byte %llu that Python gets is not the one that was sent",
             conn_index(of), (unsigned long long)(of->seen + wrong - 1));
    if (of->delivered == model.batch)
        fail("events", "connection %d: a second DATA in one batch", conn_index(of));
    if (of->eof_heard || of->eof_kept)
        fail("events", "connection %d: DATA after EOF", conn_index(of));
    if (of->held && of->held_batch < model.batch)
        fail("held", "connection %d is held, and DATA comes", conn_index(of));
    if ((of->closed || of->aborted) && of->died_batch < model.batch)
        fail("events", "connection %d is closed, and DATA comes", conn_index(of));
    of->delivered = model.batch;
    of->seen += size;
    if (of->verb && side_alive(of)) { /* begun by an earlier callback of this batch: it goes there */
        int said = of->verb == MUX_VERB_RELAY
                       ? mux_relay_more(model.loop, of->slot, of->generation,
                                        mux_loop_arena(model.loop) + event->data, size)
                       : mux_verb(model.loop, of->slot, of->generation, of->verb,
                                  mux_loop_arena(model.loop) + event->data, size);
        if (said)
            fail("refused", "connection %d: giving bytes to its verb says %d", conn_index(of), said);
        of->kept_from = of->seen;
        return;
    }
    if (of->held)
        return; /* it is kept */
    of->kept_from = of->seen;
    react(of);
}

static void eof(conn *of)
{
    if (of->eof_heard || of->eof_kept)
        fail("events", "connection %d: EOF twice", conn_index(of));
    if (!of->fin && !of->away)
        fail("events", "connection %d: EOF, and nobody sent it", conn_index(of));
    if (!of->verb && !of->away && of->seen != of->sent)
        fail("bytes", "connection %d: EOF after %llu bytes of %llu", conn_index(of),
             (unsigned long long)of->seen, (unsigned long long)of->sent);
    if ((of->closed || of->aborted) && of->died_batch < model.batch)
        fail("events", "connection %d is closed, and EOF comes", conn_index(of));
    if (!side_alive(of))
        return;
    if (of->verb == MUX_VERB_RELAY) {
        of->eof_heard = true;
        (void)mux_relay_more(model.loop, of->slot, of->generation, "", 0);
    } else if (of->held) {
        of->eof_kept = true;
    } else {
        of->eof_heard = true;
        if (of->verb || conn_index(of) % 3 == 0) /* no chance: a real kernel tells in another order */
            side_close(of);
        else
            react(of);
    }
}

static void drained(conn *of, int32_t size)
{
    if (of->verb)
        return; /* it was begun after the event */
    if (!of->pending && of->drained_batch != model.batch)
        fail("events", "connection %d: DRAINED, and nothing was queued", conn_index(of));
    if (size < 0 || size > (int32_t)of->low)
        fail("events", "connection %d: DRAINED at %d", conn_index(of), size);
    /* an earlier callback of this batch may have written more: then another one comes */
    int64_t queued = mux_queued(model.loop, of->slot, of->generation);
    if (queued <= (int64_t)of->low)
        of->choked = false;
    if (queued <= 0)
        of->pending = false;
    of->drained_batch = model.batch;
    react(of);
}

/* Whether it may have ended before Python closed it: a batch without room for the event told of it late. */
static bool ended_before_its_close(const conn *of)
{
    return of->closed && of->died_batch == model.crowded_batch && of->died_batch + 1 == model.batch;
}

/* Whether the deadline that has ended it was right to. */
static void idle(const conn *of)
{
    int64_t moved = world_moved_at(of->file);
    if (of->peer >= 0 && world_moved_at(conn_at(of->peer)->file) > moved)
        moved = world_moved_at(conn_at(of->peer)->file);
    /* a verb closes it by itself, after EOF */
    if ((of->closed && of->died_batch < model.batch) || (of->verb && of->why == MUX_NOT_TAKEN)) {
        int64_t sent = world_sent_at(of->file);
        if (!of->verb && of->closed_time > sent)
            sent = of->closed_time;
        int64_t limit = of->why == MUX_IDLE ? model.options.idle : model.options.close;
        if (limit && world_now() - sent >= limit)
            return;
        if (!ended_before_its_close(of))
            fail("deadline", "connection %d is closed, and ends too early", conn_index(of));
    }
    if (!model.options.idle || of->why != MUX_IDLE)
        fail("deadline", "connection %d is idle, and there is no deadline", conn_index(of));
    if (world_now() - moved < model.options.idle)
        fail("deadline", "connection %d ends too early", conn_index(of));
    if (world_unseen(of->file) &&
        world_arrived_at(of->file) - moved < model.options.idle && !of->verb && !of->held &&
        !of->eof_heard && !of->eof_kept)
        fail("deadline", "connection %d ends as idle, and its bytes wait unread", conn_index(of));
}

static void why(const conn *of, int32_t value)
{
    const conn *peer = of->peer >= 0 ? conn_at(of->peer) : NULL;
    bool broken = world_hit(of->file) || of->away || (world_lost_to_faults() && world_simulated);
    bool peers = peer && (world_hit(peer->file) || peer->away || world_lost_to_faults());
    if (!world_simulated)
        return;
    if (value == MUX_IDLE || value == MUX_NOT_TAKEN)
        idle(of);
    else if (value == MUX_HALF_CLOSED && (of->verb != MUX_VERB_RELAY || !model.options.half_close))
        fail("blame", "connection %d is no half-closed relay", conn_index(of));
    else if (value > 0 && value & MUX_PASSED_ON && !peers)
        fail("blame", "connection %d: nothing was wrong with its peer", conn_index(of));
    else if (value > 0 && !(value & MUX_PASSED_ON) && !broken)
        fail("blame", "connection %d: nothing was wrong with it (%s)", conn_index(of), strerror(value));
    else if (!value && !of->closed && !of->aborted && !of->refused && !of->verb)
        fail("blame", "connection %d ends without a reason", conn_index(of));
    else if (!value && of->verb && !of->closed && !of->aborted && !of->fin && !of->away && !of->reset &&
             !(peer && (peer->closed || peer->aborted || peer->fin || peer->away)))
        fail("blame", "connection %d ends under a verb without a reason", conn_index(of));
}

static void lost(conn *of, int32_t value, const char *data)
{
    uint64_t in_out[2] = {0, 0}, told[2];
    memcpy(told, data, sizeof told);
    side_flush();
    if (of->lost++)
        fail("events", "connection %d is lost twice", conn_index(of));
    of->why = value;
    world_over(of->file);
    why(of, value);
    of->side = SIDE_LOST;
    of->doomed = false;
    int said = mux_bytes(model.loop, of->slot, of->generation, in_out);
    if (said || memcmp(told, in_out, sizeof told))
        fail("counts", "connection %d: its end tells of other bytes than mux_bytes", conn_index(of));
    if (world_simulated && (said || in_out[0] < world_received(of->file) ||
                            in_out[0] > world_received(of->file) + world_forgotten(of->file) ||
                            in_out[1] != world_taken(of->file)))
        fail("counts", "connection %d: %llu in, %llu out, and the kernel says otherwise", conn_index(of),
             (unsigned long long)in_out[0], (unsigned long long)in_out[1]);
    conn *other = model.reacts && !model.ending ? any_open() : NULL;
    if (other)
        react(other); /* what connection_lost does */
    if (model.ending || !model.reacts || rng_below(&model.chance, 8))
        side_release(of);
}

static void connected(conn *of, int32_t error)
{
    if (of->connected++ || (of->side != SIDE_CONNECTING && !of->aborted))
        fail("events", "connection %d is connected twice", conn_index(of));
    if (error) {
        of->why = error;
        of->side = SIDE_LOST;
        if (world_simulated && !world_hit(of->file))
            fail("blame", "connection %d could not be made: %s", conn_index(of), strerror(error));
        side_release(of);
    } else if (!of->aborted) {
        of->side = SIDE_READY;
        uint32_t dice = model.reacts ? rng_below(&model.chance, 8) : 2;
        if (dice == 0)
            side_abort(of);
        else if (dice > 1)
            side_serve(of);
        if (of->side == SIDE_OPEN)
            react(of);
    }
}

static void one(const mux_event *event)
{
    if (event->kind < 1 || event->kind > 7 || event->slot >= SLOTS_MOST)
        fail("events", "an event of kind %u, slot %u", event->kind, event->slot);
    TRACE("  event %s slot %u value %d", kinds[event->kind], event->slot, event->value);
    if (event->kind == MUX_EV_ACCEPTED) {
        (void)accepted(event);
        return;
    }
    if (event->kind == MUX_EV_TROUBLE)
        return;
    if (model.owner[event->slot] < 0) {
        if (model.refused_batch[event->slot] != model.batch)
            fail("events", "%s of slot %u, which is nobody's", kinds[event->kind], event->slot);
        return;
    }
    conn *of = conn_at(model.owner[event->slot]);
    if (of->lost)
        fail("events", "connection %d: %s after LOST", conn_index(of), kinds[event->kind]);
    if (event->kind != MUX_EV_CONNECTED && event->kind != MUX_EV_LOST &&
        (of->side == SIDE_CONNECTING || of->side == SIDE_READY))
        fail("events", "connection %d: %s before it is served", conn_index(of), kinds[event->kind]);
    switch (event->kind) {
    case MUX_EV_DATA: data(of, event); break;
    case MUX_EV_EOF: eof(of); break;
    case MUX_EV_DRAINED: drained(of, event->value); break;
    case MUX_EV_LOST: lost(of, event->value, mux_loop_arena(model.loop) + event->data); break;
    default: connected(of, event->value); break;
    }
}

/* Whether a batch leaves no room for the event of an end, or for its bytes. */
static bool is_crowded(const mux_event *events, int count)
{
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        used = events[i].data;
        if (events[i].kind == MUX_EV_DATA)
            used += (size_t)events[i].value;
    }
    return count + MUX_EVENTS_SPARE > MUX_EVENTS || used + 2 * sizeof(uint64_t) > MUX_ARENA;
}

/* Nothing grows beyond what was asked for. */
static void check_bounds(void)
{
    if (model.stats.open > model.options.connections + (uint64_t)model.adopted)
        fail("bounds", "%llu are open, and the cap is %u", (unsigned long long)model.stats.open,
             model.options.connections);
    if (model.stats.refused && !world_lost_to_faults() && world_simulated)
        fail("refused", "an accepted connection is refused without a reason");
    for (int i = 0; i < model.conn_count; i++) {
        const conn *of = conn_at(i);
        if (!of->verb || of->side != SIDE_OPEN || !of->most_queued)
            continue;
        int64_t queued = mux_queued(model.loop, of->slot, of->generation);
        if (queued > (int64_t)of->most_queued)
            fail("bounds", "connection %d has %lld queued under a verb, and at most %llu are allowed", i,
                 (long long)queued, (unsigned long long)of->most_queued);
    }
}

void side_poll(int64_t wait)
{
    const char *data = NULL;
    size_t size = 0;
    if (model.gathered_count && model.gathered_size[0] % 3) /* and both ways of these */
        size = side_gathered(&data);
    else
        side_flush();
    remote_turn(model.ending || model.plain);
    int64_t deadline = wait < 0 ? INT64_MAX : world_now() + wait;
    model.batch++;
    int count = mux_loop_send_poll(model.loop, data, size, deadline);
    TRACE("  poll: %d", count);
    model.events += count > 0 ? (uint64_t)count : 0;
    if (model.woken && !count && wait >= MS && world_now() >= deadline && !world_disturbed())
        fail("wake", "the wake descriptor was written to, and the poll goes on");
    model.woken = false;
    if (count < 0)
        fail("poll", "mux_loop_poll says %d", count);
    if (count > (int)mux_loop_events_cap(model.loop))
        fail("events", "a batch of %d events", count);
    const mux_event *events = mux_loop_events(model.loop);
    bool left = count && events[0].kind == MUX_EV_QUEUED;
    side_crossed(left ? events[0].value : 0, true);
    if (is_crowded(events, count))
        model.crowded_batch = model.batch;
    for (int i = left; i < count; i++)
        one(&events[i]);
    side_flush();
    check_bounds();
    for (int i = 0; i < model.conn_count; i++)
        if (conn_at(i)->doomed && conn_at(i)->died_batch + 4 < model.batch) {
            if (conn_at(i)->died_batch)
                fail("told", "connection %d dropped bytes, and does not say so", i);
            conn_at(i)->died_batch = model.batch;
        }
}
