#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "model.h"

#define READ_MOST 4096

void stream_fill(char *to, int source, uint64_t from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (char)stream_byte(source, from + i);
}

size_t stream_wrong(const char *data, int source, uint64_t from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)data[i] != stream_byte(source, from + i))
            return i + 1;
    return 0;
}

conn *conn_new(int end)
{
    if (model.conn_count == CONNS)
        return NULL;
    conn *made = &model.conns[model.conn_count++];
    memset(made, 0, sizeof *made);
    made->end = end;
    made->peer = made->listener = -1;
    made->closed_at = UNLIMITED;
    return made;
}

void remote_expect(conn *of, int source, uint64_t from, uint64_t size)
{
    if (!size)
        return;
    part *last = of->part_count ? &of->parts[of->part_count - 1] : NULL;
    if (last && last->size == UNLIMITED)
        fail("simulation", "connection %d: a part after one without an end", conn_index(of));
    if (last && last->source == source && last->from + last->size == from) {
        if (of->part_at == of->part_count) { /* it was got whole: it goes on */
            of->part_at--;
            of->part_done = last->size;
        }
        last->size = size == UNLIMITED ? UNLIMITED : last->size + size;
        return;
    }
    if (of->part_count == PARTS_MOST) {
        of->unwritten = true;
        return;
    }
    of->parts[of->part_count++] = (part){source, from, size};
}

/* -- what it gets */

static void check(conn *of, const char *data, size_t size)
{
    while (size) {
        if (of->part_at == of->part_count && of->unwritten) {
            of->got += size;
            return;
        }
        if (of->part_at == of->part_count)
            fail("bytes", "connection %d got %zu bytes that nobody sent it", conn_index(of), size);
        const part *now = &of->parts[of->part_at];
        uint64_t left = now->size - of->part_done;
        size_t some = left < size ? (size_t)left : size;
        size_t wrong = stream_wrong(data, now->source, now->from + of->part_done, some);
        if (wrong)
            fail("bytes", "connection %d: byte %llu is not byte %llu of stream %d", conn_index(of),
                 (unsigned long long)(of->got + wrong - 1),
                 (unsigned long long)(now->from + of->part_done + wrong - 1), now->source);
        data += some;
        size -= some;
        of->got += some;
        of->part_done += some;
        if (of->part_done == now->size) {
            of->part_at++;
            of->part_done = 0;
        }
    }
    if (of->part_at < of->part_count && !(of->parts[of->part_at].source & 1)) {
        const conn *from = conn_at(of->parts[of->part_at].source / 2);
        if (of->parts[of->part_at].from + of->part_done > from->sent)
            fail("bytes", "connection %d got more than connection %d sent", conn_index(of),
                 conn_index(from));
    }
}

void remote_read(conn *from, uint32_t most)
{
    static char buffer[READ_MOST];
    while (most && from->end >= 0 && !from->away && !from->got_eof && !from->got_error) {
        uint32_t size = most < READ_MOST ? most : READ_MOST;
        ssize_t got = world_recv(from->end, buffer, size);
        if (got == -EAGAIN)
            return;
        if (got <= 0) {
            TRACE("  remote %d hears %s", conn_index(from), got ? strerror((int)-got) : "EOF");
            from->got_eof = !got;
            from->got_error = (int)-got;
            return;
        }
        check(from, buffer, (size_t)got);
        most -= (uint32_t)got;
    }
}

uint64_t remote_most(const conn *of)
{
    uint64_t sum = 0;
    for (int i = 0; i < of->part_count; i++) {
        const part *one = &of->parts[i];
        sum += one->size == UNLIMITED ? conn_at(one->source / 2)->sent - one->from : one->size;
    }
    return sum;
}

uint64_t remote_least(const conn *of)
{
    uint64_t sum = 0;
    for (int i = 0; i < of->part_count; i++) {
        const part *one = &of->parts[i];
        if (one->size != UNLIMITED) {
            sum += one->size;
            continue;
        }
        const conn *from = conn_at(one->source / 2);
        uint64_t all = from->closed_at < from->sent ? from->closed_at : from->sent;
        if (of->closed_at != UNLIMITED && from->closed_at == UNLIMITED)
            all = 0; /* what was read by then is not known */
        sum += all > one->from ? all - one->from : 0;
    }
    return sum;
}

/* -- what it does */

void remote_send(conn *to, uint32_t size)
{
    static char buffer[READ_MOST];
    size = size < READ_MOST ? size : READ_MOST;
    if (to->end < 0 || to->fin || to->away || to->deaf)
        return;
    stream_fill(buffer, 2 * conn_index(to), to->sent, size);
    ssize_t sent = world_send(to->end, buffer, size);
    if (sent > 0)
        to->sent += (uint64_t)sent;
    else if (sent != -EAGAIN && sent)
        to->deaf = true; /* it was reset; what has arrived can still be read */
    TRACE("  remote %d sends %u: %zd", conn_index(to), size, sent);
}

void remote_end(conn *of, int how)
{
    if (of->end < 0 || of->away)
        return;
    if (how == 0) {
        if (!of->fin)
            world_shutdown(of->end);
        of->fin = true;
        return;
    }
    if (how == 1) {
        world_hang_up(of->end);
        of->fin = true;
    } else {
        world_reset(of->end);
    }
    of->reset = how == 2;
    of->away = true;
}

static void answer(void)
{
    int end;
    while ((end = world_answer()) >= 0) {
        int i = 0;
        while (i < model.conn_count && (conn_at(i)->end >= 0 || !conn_at(i)->file ||
                                        conn_at(i)->listener >= 0 ||
                                        world_peer_port(end) != conn_at(i)->port))
            i++;
        if (i < model.conn_count)
            conn_at(i)->end = end;
        else
            fail("simulation", "nobody has made the connection of end %d", end);
    }
}

void remote_turn(bool all)
{
    answer();
    for (int i = 0; i < model.conn_count; i++) {
        conn *of = conn_at(i);
        if (of->end < 0 || of->away)
            continue;
        if (all)
            remote_read(of, UINT32_MAX);
        else if (!of->stalled)
            remote_read(of, 1 + rng_below(&model.chance, 8192));
    }
}
