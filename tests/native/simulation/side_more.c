/* The rest of the Python side: what has no connection yet, and what it gets wrong. */
#include <errno.h>

#include "fail.h"
#include "model.h"

void side_listen(int index, int verb)
{
    if (model.listeners[index].slot >= 0 || model.ending)
        return;
    int fd = world_listener();
    if (fd < 0)
        return;
    int64_t slot = mux_listen(model.loop, fd, verb, !verb);
    TRACE("  listener %d: fd %d, verb %d: %lld", index, fd, verb, (long long)slot);
    if (slot < 0) {
        if (!world_lost_to_faults())
            fail("refused", "mux_listen says %lld", (long long)slot);
        world_close(fd);
        return;
    }
    if (slot >= SLOTS_MOST || model.owner[slot] >= 0)
        fail("slot", "slot %lld is given to a listener and is connection %d's", (long long)slot,
             slot >= SLOTS_MOST ? -1 : model.owner[slot]);
    model.listeners[index].fd = fd;
    model.listeners[index].verb = verb;
    model.listeners[index].slot = slot;
}

void side_unlisten(int index)
{
    side_flush();
    if (model.listeners[index].slot < 0)
        return;
    TRACE("  listener %d ends", index);
    int result = mux_unlisten(model.loop, (uint32_t)model.listeners[index].slot);
    if (result)
        fail("refused", "mux_unlisten says %d", result);
    model.listeners[index].slot = -1;
    world_close(model.listeners[index].fd);
}

void side_dial(int index, bool hasty)
{
    if (model.listeners[index].slot < 0 || model.conn_count == CONNS)
        return;
    int end = world_dial(model.listeners[index].fd);
    if (end < 0)
        return;
    conn *made = conn_new(end);
    made->listener = index;
    made->file = world_other(end);
    made->port = world_port(end);
    made->verb = (uint8_t)model.listeners[index].verb;
    if (made->verb == MUX_VERB_ECHO)
        remote_expect(made, 2 * conn_index(made), 0, UNLIMITED);
    TRACE("  remote %d dials listener %d, port %u", conn_index(made), index, world_port(end));
    if (hasty) {
        remote_send(made, 100);
        remote_end(made, 2);
    }
}

void side_adopt(int verb, bool seen)
{
    int fd;
    if (model.conn_count == CONNS)
        return;
    uint32_t generation = 0;
    int end = world_pair(&fd);
    if (end < 0)
        return;
    conn *made = conn_new(end);
    model.adopted++;
    made->verb = (uint8_t)verb;
    world_give(fd, true);
    made->file = world_file(fd);
    int64_t slot = mux_adopt(model.loop, fd, verb, seen, &generation);
    TRACE("  connection %d is adopted: fd %d, slot %lld", conn_index(made), fd, (long long)slot);
    if (slot < 0) {
        if (!world_lost_to_faults() && slot != -EAGAIN)
            fail("refused", "mux_adopt says %lld", (long long)slot);
        world_give(fd, false);
        world_close(fd);
        made->side = SIDE_UNSEEN;
        made->refused = true;
        return;
    }
    if (verb == MUX_VERB_ECHO)
        remote_expect(made, 2 * conn_index(made), 0, UNLIMITED);
    if (seen)
        side_begin(made, (uint32_t)slot, generation, SIDE_OPEN);
    else
        made->side = SIDE_UNSEEN;
}

void side_connect(int kind)
{
    struct sockaddr_storage address;
    uint32_t generation = 0;
    if (model.conn_count == CONNS)
        return;
    socklen_t size = world_address(kind, &address);
    int64_t slot = mux_connect(model.loop, &address, size, &generation);
    TRACE("  connect to %d: %lld", kind, (long long)slot);
    if (slot == -EAGAIN && model.stats.outgoing < model.options.connections)
        fail("refused", "mux_connect says that there are too many, at %llu",
             (unsigned long long)model.stats.outgoing);
    if (slot == -ENOMEM && !world_lost_to_faults())
        fail("refused", "mux_connect says that there is no memory");
    if (slot < 0)
        return;
    conn *made = conn_new(-1);
    made->target = kind;
    side_begin(made, (uint32_t)slot, generation, SIDE_CONNECTING);
    made->port = world_port_of(mux_handle(model.loop, made->slot, generation));
}

void side_close_unseen(bool at_once)
{
    side_flush();
    for (int i = 0; i < model.conn_count; i++) {
        conn *of = conn_at(i);
        if (at_once && of->side == SIDE_OVER && of->closed)
            of->aborted = true; /* it may linger, which ends now */
        bool unseen = of->side == SIDE_UNSEEN || (of->side == SIDE_NONE && of->verb);
        if (!unseen || of->aborted)
            continue;
        conn *peer = of->peer >= 0 ? conn_at(of->peer) : NULL;
        if (at_once) {
            of->aborted = true;
            if (peer)
                peer->aborted = true;
        } else {
            of->closed = true;
            if (world_simulated && of->file && of->closed_at == UNLIMITED)
                of->closed_at = world_received(of->file);
            if (peer && !peer->closed) {
                peer->closed = true;
                peer->died_batch = model.batch;
                if (world_simulated && peer->closed_at == UNLIMITED)
                    peer->closed_at = world_received(peer->file);
                if (peer->side == SIDE_OPEN)
                    peer->side = SIDE_CLOSING;
            }
        }
    }
    TRACE("  close_unseen at once: %d", at_once);
    if (at_once) { /* some of them as a drain does: who rests, and so many */
        uint64_t *moved = calloc(mux_loop_slots(model.loop), sizeof *moved);
        for (int look = 0; look < 2; look++)
            (void)mux_stop_unseen(model.loop, UINT32_MAX, moved);
        free(moved);
        (void)mux_stop_unseen(model.loop, (uint32_t)model.conn_count / 2, NULL);
    }
    mux_close_unseen(model.loop, at_once);
}

/* -- what is wrong */

#define CALLS 12

static int64_t call_with(const conn *of, uint32_t call)
{
    uint32_t slot = of->slot, generation = of->generation;
    uint64_t in_out[2];
    switch (call % CALLS) {
    case 0: return mux_send(model.loop, slot, generation, "wrong", 5);
    case 1: return mux_queued(model.loop, slot, generation);
    case 2: return mux_marks(model.loop, slot, generation, 1, 1);
    case 3: return mux_hold(model.loop, slot, generation, 1);
    case 4: return mux_write_eof(model.loop, slot, generation);
    case 5: return mux_close(model.loop, slot, generation);
    case 6: return mux_abort(model.loop, slot, generation, 1);
    case 7: return mux_verb(model.loop, slot, generation, MUX_VERB_ECHO, "wrong", 5);
    case 8: return mux_bytes(model.loop, slot, generation, in_out);
    case 9: return mux_forget(model.loop, slot, generation);
    case 10: return mux_refuse(model.loop, slot, generation);
    default: return mux_release(model.loop, slot, generation);
    }
}

/* Calls with the name of a life that is over: all of them say so, and nothing happens. */
void side_stale(conn *of, uint32_t call)
{
    if (of->side != SIDE_OVER)
        return;
    if (world_open(of->file))
        return; /* it lingers, with nothing of Python's */
    int64_t said = call_with(of, call);
    TRACE("  call %u with the name of connection %d, which is over: %lld", call % CALLS, conn_index(of),
          (long long)said);
    if (said != -ESTALE || mux_handle(model.loop, of->slot, of->generation) != -ESTALE)
        fail("stale", "call %u with a name that is over says %lld", call % CALLS, (long long)said);
}

/* The same from a thread that does not run the loop. */
void side_foreign(conn *of, uint32_t call)
{
    if (!model.batch || of->side == SIDE_NONE || of->side == SIDE_UNSEEN)
        return;
    world_thread(true);
    int64_t said = call_with(of, call);
    world_thread(false);
    TRACE("  call %u with the name of connection %d, of another thread: %lld", call % CALLS, conn_index(of),
          (long long)said);
    if (said != -EPERM)
        fail("thread", "call %u of another thread says %lld", call % CALLS, (long long)said);
}

/* Calls that make no sense: they are refused, and nothing happens. */
static int64_t refused(uint32_t what, const conn *of, int fd)
{
    struct sockaddr_storage address;
    uint32_t generation;
    switch (what) {
    case 0: return mux_listen(model.loop, fd, MUX_VERB_RELAY, 0); /* a relay takes two */
    case 1: return mux_adopt(model.loop, fd, MUX_VERB_RELAY, 1, &generation);
    case 2: return mux_verb(model.loop, of->slot, of->generation, MUX_VERB_RELAY, "", 0);
    case 3: return mux_relay(model.loop, of->slot, of->generation, of->slot, of->generation, "", 0, "", 0);
    case 4: return mux_release(model.loop, of->slot, of->generation); /* it is not lost */
    case 5: return mux_unlisten(model.loop, of->slot); /* it does not listen */
    default: break;
    }
    world_thread(true); /* the rest are refused to another thread */
    int64_t said = what == 6   ? mux_listen(model.loop, fd, 0, 1)
                   : what == 7 ? mux_adopt(model.loop, fd, 0, 1, &generation)
                   : what == 8 ? mux_connect(model.loop, &address, world_address(0, &address), &generation)
                               : mux_unlisten(model.loop, (uint32_t)model.listeners[0].slot);
    world_thread(false);
    return said;
}

void side_misuse(uint32_t what)
{
    const conn *of = NULL;
    for (int i = 0; i < model.conn_count && !of; i++)
        of = side_alive(conn_at(i)) ? conn_at(i) : NULL;
    what %= 10;
    bool foreign = what > 5;
    if (!of || (foreign && !model.batch) || (foreign && !world_simulated))
        return;
    int fd = -1, end = what == 1 || what == 7 ? world_pair(&fd) : -1;
    if (what == 0 || what == 6)
        fd = world_listener();
    int64_t said = refused(what, of, fd);
    TRACE("  misuse %u: %lld", what, (long long)said);
    if (said >= 0 || (foreign && said != -EPERM))
        fail("misuse", "misuse %u says %lld", what, (long long)said);
    if (fd >= 0)
        world_close(fd);
    if (end >= 0)
        world_hang_up(end);
}
