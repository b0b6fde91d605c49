/* The end of a run: nothing goes wrong any more, and every remote end reads. Then everything that can move
 * has to move within a bounded number of turns, everything that is closed has to go, and nothing may be
 * left. */
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "model.h"

#define MS INT64_C(1000000)
#define ROUNDS_MOST 600 /* polls until all is quiet; a hundred connections take about 20 */
#define QUIET_ROUNDS 3

static uint64_t moved(void)
{
    return world_moves() + model.stats.bytes_in + model.stats.bytes_out + model.stats.total + model.events;
}

void final_settle(const char *when, int64_t pause)
{
    int quiet = 0;
    for (int round = 0; quiet < QUIET_ROUNDS; round++) {
        uint64_t before = moved();
        if (round > ROUNDS_MOST)
            fail("progress", "%s, and after %d polls it still goes on", when, round);
        remote_turn(true);
        bool rests = side_wait(MS);
        quiet = rests && moved() == before ? quiet + 1 : 0;
        if (quiet == 1) /* a listener may rest: let it try again */
            world_pass(pause);
    }
    remote_turn(true);
}

/* -- while it is open */

static const conn *partner(const conn *of)
{
    return of->peer >= 0 ? conn_at(of->peer) : NULL;
}

static bool running(const conn *of) /* nobody has ended it */
{
    const conn *peer = partner(of);
    bool open = of->side == SIDE_OPEN || of->side == SIDE_UNSEEN || (of->side == SIDE_NONE && of->verb);
    return open && of->end >= 0 && !of->away && !of->closed && !of->aborted && !of->refused &&
           (!peer || !peer->away) && !world_gone(of->file) && !world_waits(of->file);
}

static void check_running(const conn *of)
{
    int i = conn_index(of);
    const conn *peer = partner(of);
    if (of->got_error || of->deaf)
        fail("loss", "connection %d is open, and its remote end hears a reset", i);
    if (world_unread(of->file) || world_received(of->file) + world_forgotten(of->file) != of->sent)
        fail("progress", "connection %d: %llu bytes sent, %llu received", i, (unsigned long long)of->sent,
             (unsigned long long)world_received(of->file));
    if (!of->unwritten && of->got != remote_most(of))
        fail("progress", "connection %d: its remote end has %llu bytes, not %llu", i,
             (unsigned long long)of->got, (unsigned long long)remote_most(of));
    if (!of->verb && of->seen != of->sent)
        fail("progress", "connection %d: Python has %llu of %llu bytes", i, (unsigned long long)of->seen,
             (unsigned long long)of->sent);
    if (!of->verb && of->fin && !of->eof_heard)
        fail("progress", "connection %d: EOF is never told", i);
    if (!of->verb && of->pending)
        fail("progress", "connection %d: all is sent, and no DRAINED says so", i);
    if (!of->verb && of->choked)
        fail("progress", "connection %d: Python waits for DRAINED at the low mark", i);
    if (of->eof_written && !of->got_eof)
        fail("progress", "connection %d: its remote end does not hear EOF", i);
    if (of->got_eof && !of->deaf && !of->eof_written && !(peer && peer->fin))
        fail("loss", "connection %d: its remote end hears EOF, and nobody sent it", i);
    if (peer && peer->fin && (of->fin || !of->got_eof))
        fail("progress", "connection %d: %s", i, of->fin ? "both have ended, and it is open"
                                                         : "its peer's EOF is not passed on");
    if ((of->verb == MUX_VERB_ECHO || of->verb == MUX_VERB_DISCARD) && of->fin)
        fail("progress", "connection %d: EOF under a verb, and it is open", i);
}

static void check_open(void)
{
    uint64_t in, dropped, out;
    world_totals(&in, &dropped, &out);
    if (world_simulated && (in > model.stats.bytes_in || in + dropped < model.stats.bytes_in ||
                            out != model.stats.bytes_out))
        fail("counts", "bytes in %llu of %llu, out %llu of %llu", (unsigned long long)model.stats.bytes_in,
             (unsigned long long)in, (unsigned long long)model.stats.bytes_out, (unsigned long long)out);
    for (int i = 0; i < model.conn_count; i++) {
        const conn *of = conn_at(i);
        if (of->doomed)
            fail("told", "connection %d dropped bytes, and does not say so", i);
        if (of->side == SIDE_CONNECTING && of->target != 2 && !of->aborted)
            fail("progress", "connection %d never hears whether it is connected", i);
        if (of->side == SIDE_NONE && !of->away && !of->got_error && !of->got_eof && of->listener >= 0 &&
            model.listeners[of->listener].slot >= 0 && world_waits(of->file) &&
            model.stats.open < model.options.connections)
            fail("progress", "connection %d is never accepted", i);
        if (world_simulated && running(of))
            check_running(of);
        if (of->side == SIDE_CLOSING && world_simulated)
            fail("progress", "connection %d is closed, and never lost", i);
    }
}

/* -- when it has ended */

static bool told(const conn *of) /* that something may be missing */
{
    bool unnamed = of->side == SIDE_UNSEEN || (of->side == SIDE_NONE && of->verb);
    return of->aborted || of->refused || of->away || of->why || (of->closed && world_hit(of->file)) ||
           (unnamed && (world_hit(of->file) || world_lost_to_faults() || model.options.idle ||
                        model.options.close || model.options.half_close)) ||
           (of->side == SIDE_NONE && !of->verb);
}

static void check_end(const conn *of)
{
    const conn *peer = partner(of);
    if (of->end < 0 || of->away)
        return;
    if (!of->got_eof && !of->got_error)
        fail("progress", "connection %d is over, and its remote end does not hear of it", conn_index(of));
    if (told(of) || (peer && told(peer)) || of->unwritten || !world_simulated)
        return;
    bool unknown = (of->got_error || of->deaf) && (!model.options.linger || !world_told(of->file));
    if (of->got < remote_least(of) && !unknown)
        fail("loss", "connection %d: its remote end got %llu bytes of %llu, and %s", conn_index(of),
             (unsigned long long)of->got, (unsigned long long)remote_least(of),
             of->got_eof ? "EOF" : "a reset");
}

/* A relay of which one side has ended has its time, and no more. */
static void check_half_closed(void)
{
    if (!model.options.half_close || !world_simulated)
        return;
    final_settle("no fault is left", model.options.half_close + MS);
    for (int i = 0; i < model.conn_count; i++) {
        const conn *of = conn_at(i), *peer = partner(of);
        if (peer && running(of) && running(peer) && of->fin != peer->fin)
            fail("deadline", "connection %d is half a relay, and does not end", i);
    }
}

static void end_all(void)
{
    for (int i = 0; i < model.conn_count; i++) {
        conn *of = conn_at(i);
        uint32_t dice = rng_below(&model.chance, 8);
        if (of->side == SIDE_CONNECTING || of->side == SIDE_READY || dice == 0)
            side_abort(of);
        if (dice < 3)
            side_eof(of);
        side_close(of);
    }
    for (int i = 0; i < LISTENERS; i++)
        side_unlisten(i);
    side_close_unseen(false);
}

static void check_gone(void)
{
    for (int i = 0; i < model.conn_count; i++) {
        conn *of = conn_at(i);
        if (of->side != SIDE_OVER && of->side != SIDE_UNSEEN && of->side != SIDE_NONE)
            fail("progress", "connection %d is ended, and never lost", i);
        check_end(of);
    }
    if (mux_unsent(model.loop))
        fail("counts", "all have ended, and %llu bytes are unsent",
             (unsigned long long)mux_unsent(model.loop));
    if (model.stats.open || model.stats.outgoing)
        fail("counts", "all have ended, and %llu are open, %llu of them ours",
             (unsigned long long)model.stats.open, (unsigned long long)model.stats.outgoing);
}

static void free_all(void)
{
    mux_loop *loop = model.loop;
    model.loop = NULL;
    world_watch(-1);
    mux_loop_free(loop);
    for (int i = 0; i < LISTENERS; i++)
        if (model.listeners[i].slot >= 0)
            world_close(model.listeners[i].fd);
    const char *left = world_left();
    if (left)
        fail("left", "%s", left);
}

void final_check(int how)
{
    side_flush();
    if (how == 0) { /* without ceremony */
        free_all();
        return;
    }
    world_calm();
    if (how == 1 && world_simulated) { /* in a forked child, which frees its copy */
        world_be_child();
        if (mux_loop_poll(model.loop, 0) != -10)
            fail("child", "the child of a fork may poll");
        free_all();
        return;
    }
    TRACE("the end begins");
    model.ending = true;
    side_rates_end();
    final_settle("no fault is left", model.options.accept_pause + MS);
    for (int i = 0; i < model.conn_count && world_simulated; i++) {
        const conn *of = conn_at(i);
        if ((of->side == SIDE_OPEN || of->side == SIDE_READY) && world_dead(of->file))
            fail("progress", "connection %d has been reset, and is not told", i);
    }
    for (int i = 0; i < model.conn_count; i++) {
        conn *of = conn_at(i);
        if (of->side == SIDE_READY)
            side_serve(of);
        side_release(of);
        if (of->held)
            side_hold(of, false);
    }
    final_settle("no fault is left", model.options.accept_pause + MS);
    check_open();
    if (how % 4 == 2)
        check_half_closed();
    TRACE("everything is ended");
    model.chance.state = 1;
    end_all();
    /* what lingers is not told when its last byte is acknowledged */
    int64_t pause = model.options.accept_pause + MS;
    final_settle("everything was ended", model.plain ? pause : pause + model.options.linger);
    for (int i = 0; i < model.conn_count && model.plain; i++)
        remote_end(conn_at(i), 1);
    if (model.plain)
        final_settle("everybody has hung up", model.options.accept_pause + MS);
    check_gone();
    free_all();
}

int final_report(char *to, size_t size)
{
    int at = 0;
    for (int i = 0; i < model.conn_count && at < (int)size; i++) {
        const conn *of = conn_at(i);
        at += snprintf(to + at, size - (size_t)at, "%d: got %llu %s; sent %llu; seen %llu%s; why %d\n", i,
                       (unsigned long long)of->got,
                       of->got_error ? "reset" : of->got_eof ? "eof" : of->away ? "-" : "open",
                       (unsigned long long)of->sent, (unsigned long long)of->seen,
                       of->eof_heard ? " eof" : "", of->why);
    }
    return at;
}
