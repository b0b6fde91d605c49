#include "script.h"

#include <stdio.h>
#include <string.h>

#include "script_ops.h"

const char *const op_names[OP_CODES] = {
    "poll", "dial", "adopt", "connect", "listen", "unlisten", "wake", "fork", "full", "pass",
    "close_unseen", "misuse", "stray", "flood", "remote_send", "remote_read", "remote_stall", "remote_end",
    "remote_eof", "send", "gather", "hold", "verb", "relay", "close", "abort", "eof", "marks",
    "release", "stale", "foreign", "limit",
};

/* How often each is drawn. */
static const uint8_t weights[OP_CODES] = {
    [OP_POLL] = 60, [OP_DIAL] = 14, [OP_ADOPT] = 8, [OP_CONNECT] = 6, [OP_LISTEN] = 3, [OP_UNLISTEN] = 1,
    [OP_WAKE] = 1, [OP_FORK] = 2, [OP_FULL] = 1, [OP_PASS] = 3, [OP_CLOSE_UNSEEN] = 1,
    [OP_MISUSE] = 1, [OP_STRAY] = 1, [OP_FLOOD] = 4,
    [OP_REMOTE_SEND] = 40, [OP_REMOTE_READ] = 4, [OP_REMOTE_STALL] = 5, [OP_REMOTE_END] = 4,
    [OP_REMOTE_EOF] = 4, [OP_SEND] = 14, [OP_GATHER] = 6, [OP_HOLD] = 6, [OP_VERB] = 3, [OP_RELAY] = 5,
    [OP_CLOSE] = 3, [OP_ABORT] = 2, [OP_EOF] = 2, [OP_MARKS] = 1, [OP_RELEASE] = 4, [OP_STALE] = 3,
    [OP_FOREIGN] = 1, [OP_LIMIT] = 6,
};

static uint32_t draw(script_source *from, uint32_t bound)
{
    if (!from->bytes)
        return rng_below(&from->seed, bound);
    uint32_t value = 0, bytes = bound > 65536 ? 4 : bound > 256 ? 2 : 1;
    for (; bytes && from->at < from->size; bytes--)
        value = value << 8 | from->bytes[from->at++];
    return value % bound;
}

static bool over(const script_source *from)
{
    return from->bytes && from->at >= from->size;
}

/* least … least + span - 1; or, one time in `few`, something else. */
static uint32_t usually(script_source *from, uint32_t few, uint32_t least, uint32_t span, uint32_t rarely,
                        uint32_t rare_span)
{
    return draw(from, few) ? least + draw(from, span) : rarely + draw(from, rare_span);
}

/* Where all comes to rest after each operation (plain) there is nothing to poll for, and no fault. */
static uint32_t weight(uint32_t code, bool plain)
{
    switch (code) {
    case OP_POLL: case OP_STRAY: case OP_FOREIGN: case OP_FORK: case OP_FULL: case OP_PASS:
    case OP_FLOOD: case OP_REMOTE_STALL: case OP_LIMIT: /* it takes time */
        return plain ? 0 : weights[code];
    case OP_CLOSE: case OP_ABORT: case OP_REMOTE_END:
        return plain ? 3u * weights[code] : weights[code];
    default:
        return weights[code];
    }
}

static void draw_ops(script *to, script_source *from, uint32_t most, bool plain)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < OP_CODES; i++)
        sum += weight(i, plain);
    uint32_t count = 10 + draw(from, most - 10);
    for (uint32_t i = 0; i < count && !over(from); i++) {
        op *now = &to->ops[to->count++];
        uint32_t at = draw(from, sum), code = 0;
        for (; at >= weight(code, plain); code++)
            at -= weight(code, plain);
        now->code = (uint8_t)code;
        now->a = draw(from, 65536);
        now->b = draw(from, 65536);
        now->noise = draw(from, UINT32_MAX);
    }
}

/* A listener of each kind and a few connections, else most of the rest means nothing. */
static void draw_begin(script *to, script_source *from)
{
    for (uint32_t i = 0; i < 3; i++)
        to->ops[to->count++] = (op){.code = OP_LISTEN, .a = i, .b = i, .noise = 0};
    for (uint32_t i = draw(from, 6); i; i--) {
        op *now = &to->ops[to->count++];
        now->code = draw(from, 3) ? OP_DIAL : OP_ADOPT;
        now->a = draw(from, 65536);
        now->b = draw(from, 65536);
        now->noise = draw(from, UINT32_MAX);
    }
}

void script_draw(script *to, script_source *from)
{
    static const uint32_t sizes[] = {64, 200, 512, 2000, 4096, 16000};
    memset(to, 0, sizeof *to);
    to->world.send_room = sizes[draw(from, 6)];
    to->world.receive_room = sizes[draw(from, 6)];
    to->world.rate = usually(from, 4, 10, 60, 150, 1);
    for (uint32_t fault = 1; fault <= WORLD_FAULTS; fault <<= 1)
        if (!draw(from, fault == WORLD_MEMORY || fault == WORLD_BROKEN ? 5 : 3))
            to->world.faults |= fault;
    if (!draw(from, 4))
        to->world.faults = 0;
    to->edge = draw(from, 2);
    to->connections = usually(from, 6, 16, 30, 1, 4);
    to->read_chunk = sizes[draw(from, 5)];
    to->high = draw(from, 3) ? sizes[draw(from, 5)] : draw(from, 3000);
    to->low = to->high / (1 + draw(from, 8));
    to->reads = 1 + draw(from, 4);
    to->accepts = 1 + draw(from, 4);
    to->idle_ms = usually(from, 3, 0, 1, 40, 100);
    to->close_ms = usually(from, 3, 0, 1, 40, 100);
    to->linger_ms = usually(from, 6, 20, 100, 0, 1);
    to->half_close_ms = usually(from, 3, 0, 1, 30, 100);
    to->pause_ms = 1 + draw(from, 10);
    to->reacts = draw(from, 6) != 0;
    to->end = draw(from, 1024);
    draw_begin(to, from);
    to->guest = to->end / 16 % 3 == 0;
    draw_ops(to, from, OPS_MOST - 12, false);
}

void script_draw_plain(script *to, script_source *from)
{
    memset(to, 0, sizeof *to);
    to->world.send_room = to->world.receive_room = 1 << 17;
    to->plain = true;
    to->edge = draw(from, 2);
    to->connections = 100;
    to->read_chunk = 4096;
    to->high = 65536;
    to->low = 16384;
    to->reads = to->accepts = 4;
    to->linger_ms = 1000;
    to->pause_ms = 1;
    to->end = 2;
    draw_begin(to, from);
    draw_ops(to, from, 60, true);
    to->guest = !draw(from, 3);
}

void script_print(const script *what)
{
    printf("set-up: %s trigger, connections %u, read_chunk %u, high %u, low %u, reads %u, accepts %u,\n"
           "  idle %u ms, close %u ms, linger %u ms, half_close %u ms, accept_pause %u ms; "
           "buffers %u and %u bytes;\n"
           "  faults %#x, each in %u of 1024 calls; python %s%s; end %u\n",
           what->edge ? "edge" : "level", what->connections, what->read_chunk, what->high, what->low,
           what->reads, what->accepts, what->idle_ms, what->close_ms, what->linger_ms,
           what->half_close_ms, what->pause_ms,
           what->world.send_room, what->world.receive_room, what->world.faults, what->world.rate,
           what->reacts ? "reacts" : "listens", what->guest ? " as a guest" : "", what->end % 16);
    for (int i = 0; i < what->count; i++)
        printf("  %s %u %u%s\n", op_names[what->ops[i].code], what->ops[i].a, what->ops[i].b,
               what->ops[i].noise ? "" : " (in quiet)");
}
