/* One script, from the first call to the last. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "model.h"
#include "script.h"
#include "script_ops.h"

#define MS INT64_C(1000000)

struct model model;
jmp_buf fail_run;
char fail_name[40], fail_detail[400];
int tracing;
script_totals script_done;

void fail(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    snprintf(fail_name, sizeof fail_name, "%s", name);
    vsnprintf(fail_detail, sizeof fail_detail, format, arguments);
    va_end(arguments);
    longjmp(fail_run, 1);
}

void trace(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

static conn *any(uint32_t number)
{
    return model.conn_count ? conn_at((int)(number % (uint32_t)model.conn_count)) : NULL;
}

static void gather(conn *of, uint32_t size, int writes) /* a callback may write more than once */
{
    for (; writes; writes--)
        side_gather(of, size);
}

static void connection_op(const op *now, conn *of)
{
    switch (now->code) {
    case OP_REMOTE_SEND: remote_send(of, 1 + now->b % 4096); break;
    case OP_REMOTE_READ: remote_read(of, 1 + now->b % 8192); break;
    case OP_REMOTE_STALL: of->stalled = now->b & 1; break;
    case OP_REMOTE_END: remote_end(of, (int)(now->b % 3)); break;
    case OP_REMOTE_EOF: remote_end(of, 0); break;
    case OP_SEND: side_send(of, now->b % 4096); break;
    case OP_GATHER: gather(of, 1 + now->b % 2000, now->b % 5 ? 1 : 3); break;
    case OP_HOLD: side_hold(of, now->b & 1); break;
    case OP_VERB: side_verb(of, now->b & 1 ? MUX_VERB_ECHO : MUX_VERB_DISCARD); break;
    case OP_RELAY: side_relay(of, any(now->b)); break;
    case OP_CLOSE: side_close(of); break;
    case OP_ABORT: side_abort(of); break;
    case OP_EOF: side_eof(of); break;
    case OP_MARKS: side_marks(of, now->b % 4000, now->b % 4000 / 4); break;
    case OP_RELEASE: side_release(of); break;
    case OP_STALE: side_stale(of, now->b); break;
    case OP_FOREIGN: side_foreign(of, now->b); break;
    case OP_LIMIT: side_limit(of, now->b); break;
    default: break;
    }
    if (now->code == OP_RELEASE && of->side == SIDE_READY)
        side_serve(of);
}

/* A few, the latest first, as one wait may tell of: some fill the batch, and the others have to wait. */
static void flood(uint32_t fill, uint32_t more)
{
    int left = (int)(fill + more);
    for (int i = model.conn_count - 1; i >= 0 && left; i--) {
        conn *to = conn_at(i);
        if (to->side != SIDE_OPEN || to->verb || to->held || to->fin)
            continue;
        remote_send(to, (MUX_ARENA - MUX_ARENA_LEAST / 2) / fill);
        left--;
    }
}

static void adopt(const op *now)
{
    int verb = (int)(now->a % 3 ? 0 : now->b % 3);
    side_adopt(verb, !verb || now->a & 4);
}

static void connect_to(uint32_t dice) /* mostly where somebody accepts */
{
    int kind = dice == 7 ? 2 : dice == 6;
    side_connect(model.plain && kind ? 1 : kind); /* a real kernel has nobody who keeps silent */
}

static void operation(const op *now)
{
    rng mixed = {now->noise};
    world_noise(rng_next(&mixed));
    world_quiet(!now->noise);
    model.chance.state = rng_next(&mixed);
    TRACE("%s %u %u", op_names[now->code], now->a, now->b);
    switch (now->code) {
    case OP_POLL:
        if (now->b % 64 == 0) { /* for ever, and it is woken */
            world_wake();
            side_wait(-1);
        } else {
            side_wait((int64_t)(now->a % 5) * MS);
        }
        break;
    case OP_DIAL: side_dial((int)(now->a % LISTENERS), !model.plain && now->b % 8 == 1); break;
    case OP_ADOPT: adopt(now); break;
    case OP_CONNECT: connect_to(now->a % 8); break;
    case OP_LISTEN: side_listen((int)(now->a % LISTENERS), (int)(now->b % 4 > 2 ? 0 : now->b % 3)); break;
    case OP_UNLISTEN: side_unlisten((int)(now->a % LISTENERS)); break;
    case OP_WAKE:
        world_wake();
        model.woken = true;
        break;
    case OP_FORK: world_fork(now->a & 1); break;
    case OP_FULL: world_no_descriptors(now->a & 1); break;
    case OP_PASS: world_pass((int64_t)(now->a % 200) * MS); break;
    case OP_CLOSE_UNSEEN: side_close_unseen(now->a & 1); break;
    case OP_STRAY: world_stray(); break;
    case OP_FLOOD: flood(1 + now->a % 2, 1 + now->b % 2); break;
    case OP_MISUSE: side_misuse(now->a); break;
    default:
        if (model.conn_count)
            connection_op(now, any(now->a));
        break;
    }
}

static bool begin(const script *what)
{
    memset(&model, 0, sizeof model);
    memset(model.owner, 255, sizeof model.owner);
    for (int i = 0; i < LISTENERS; i++)
        model.listeners[i].slot = -1;
    model.reacts = what->reacts;
    model.plain = what->plain;
    model.guest = what->guest;
    model.watched = -1;
    world_options options = what->world;
    options.edge = what->edge;
    options.linger = what->linger_ms * MS;
    world_begin(&options);
    world_noise(what->end + 1);
    model.options = (mux_options){
        .connections = what->connections,
        .read_chunk = what->read_chunk,
        .high = what->high,
        .low = what->low,
        .idle = what->idle_ms * MS,
        .close = what->close_ms * MS,
        .linger = what->linger_ms * MS,
        .half_close = what->half_close_ms * MS,
        .accept_pause = what->pause_ms * MS,
        .reads = what->reads,
        .accepts = what->accepts,
        .wake = world_wake_fd(),
        .edge = (int)what->edge,
        .stats = &model.stats,
    };
    const char *call;
    int error;
    model.loop = mux_loop_new(&model.options, &call, &error);
    if (!model.loop && (!*call || !error))
        fail("told", "mux_loop_new fails, and does not say why");
    return model.loop;
}

const char *script_run(const script *what)
{
    const char *volatile broken = NULL;
    if (setjmp(fail_run)) {
        broken = fail_name;
    } else if (begin(what)) {
        for (int i = 0; i < what->count; i++) {
            operation(&what->ops[i]);
            side_rates_check();
            if (what->plain)
                final_settle("an operation", MS);
        }
        final_check((int)what->end % 16);
    } else if (world_left()) {
        fail("left", "%s", world_left());
    }
    script_done.runs++;
    script_done.ops += (uint64_t)what->count;
    script_done.turns += model.stats.turns;
    world_end();
    return broken;
}
