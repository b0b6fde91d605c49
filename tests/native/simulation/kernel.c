#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "fail.h"

struct kernel kernel;

bool kernel_wrong(uint32_t fault)
{
    return !kernel.calm && kernel.options.faults & fault && rng_hits(&kernel.noise, kernel.options.rate);
}

/* -- files and descriptors */

int kernel_file_new(enum kernel_kind kind)
{
    if (kernel.file_count == KERNEL_FILES)
        fail("simulation", "more than %d files", KERNEL_FILES);
    int index = kernel.file_count++;
    kernel_file *file = &kernel.files[index];
    kernel_flow kept = file->in;
    memset(file, 0, sizeof *file);
    file->in.ring = kept.ring; /* of an earlier run */
    file->in.ring_size = kept.ring_size;
    file->kind = (uint8_t)kind;
    file->other = -1;
    return index;
}

void kernel_join(int one, int other)
{
    uint32_t size = kernel.options.send_room + kernel.options.receive_room;
    for (int i = 0; i < 2; i++) {
        kernel_file *file = &kernel.files[i ? other : one];
        file->other = i ? one : other;
        file->state = TCP_OPEN;
        if (file->in.ring_size < size) {
            free(file->in.ring);
            file->in.ring = malloc(size);
            file->in.ring_size = size;
        }
        if (!file->in.ring)
            abort();
    }
}

int kernel_fd_new(int file, bool core)
{
    int fd = 3; /* the lowest, open(2): so that a number is used again at once */
    while (fd < KERNEL_FDS && kernel.fds[fd].file >= 0)
        fd++;
    if (fd == KERNEL_FDS)
        return -EMFILE;
    kernel.fds[fd].file = file;
    kernel.fds[fd].core = core;
    kernel.files[file].refs++;
    return fd;
}

kernel_file *kernel_file_of(int fd)
{
    if (fd < 0 || fd >= KERNEL_FDS || kernel.fds[fd].file < 0)
        fail("descriptor", "%d is not open", fd);
    return &kernel.files[kernel.fds[fd].file];
}

static bool finished(const kernel_file *file)
{
    return file->shut && file->in.fin_arrived && kernel.files[file->other].in.fin_arrived;
}

static void close_stream(int index)
{
    kernel_file *file = &kernel.files[index];
    if (file->state == TCP_OPEN && !finished(file)) {
        if (file->in.arrived > file->in.read || file->resets) {
            kernel_reset(index);
        } else if (!file->shut) {
            file->shut = true;
            kernel.files[file->other].in.fin = true;
        }
    } else {
        file->state = TCP_DEAD;
    }
}

void kernel_file_put(int index)
{
    kernel_file *file = &kernel.files[index];
    if (--file->refs)
        return;
    kernel.moves++;
    file->closed = true;
    kernel_unwatch(index);
    if (file->kind == FILE_STREAM)
        close_stream(index);
    for (int i = 0; i < file->waiting_count; i++) {
        kernel.files[file->waiting[i]].closed = true;
        kernel_reset(file->waiting[i]);
    }
    file->waiting_count = 0;
}

/* -- TCP */

uint64_t kernel_on_way(const kernel_file *from)
{
    const kernel_flow *out = &kernel.files[from->other].in;
    return out->written - out->arrived;
}

static uint64_t space(const kernel_file *file)
{
    uint64_t queued = kernel_on_way(file);
    return queued < kernel.options.send_room ? kernel.options.send_room - queued : 0;
}

bool kernel_writable(const kernel_file *file)
{
    return 2 * space(file) >= kernel_on_way(file); /* sk_stream_is_writeable */
}

uint32_t kernel_poll(kernel_file *file)
{
    uint32_t mask = 0;
    if (file->kind == FILE_WAKE)
        return file->in.written > file->in.read ? EPOLLIN : 0;
    if (file->kind == FILE_LISTENER)
        return file->waiting_count ? EPOLLIN : 0;
    if (file->state == TCP_CONNECTING)
        return 0;
    if (file->state != TCP_OPEN)
        mask = EPOLLHUP | EPOLLIN | EPOLLOUT | EPOLLRDHUP;
    else if (file->shut && file->in.fin_arrived)
        mask = EPOLLHUP;
    if (file->in.fin_arrived)
        mask |= EPOLLIN | EPOLLRDHUP;
    if (file->in.arrived > file->in.read)
        mask |= EPOLLIN;
    if (file->in.urgent && file->in.urgent < file->in.arrived)
        mask |= EPOLLPRI;
    if (file->state == TCP_OPEN) {
        if (file->shut || kernel_writable(file))
            mask |= EPOLLOUT;
        else
            file->no_space = true;
    }
    return file->error ? mask | EPOLLERR : mask;
}

static int take_error(kernel_file *file, int otherwise)
{
    int error = file->error ? file->error : otherwise;
    if (file->error)
        kernel.moves++;
    file->error = 0;
    return -error;
}

ssize_t kernel_send(kernel_file *file, const void *data, size_t size)
{
    if (file->kind != FILE_STREAM || file->state == TCP_FRESH)
        return -EPIPE;
    if (file->state == TCP_CONNECTING)
        return -EAGAIN;
    if (file->error || file->shut || file->state == TCP_DEAD)
        return take_error(file, EPIPE);
    size_t fits = size < space(file) ? size : (size_t)space(file);
    if (fits < size)
        file->no_space = true;
    if (!fits)
        return size ? -EAGAIN : 0;
    kernel_flow *out = &kernel.files[file->other].in;
    for (size_t i = 0; i < fits;) {
        size_t at = (size_t)(out->written % out->ring_size), run = out->ring_size - at;
        run = run < fits - i ? run : fits - i;
        memcpy(out->ring + at, (const char *)data + i, run);
        out->written += run;
        i += run;
    }
    kernel.moves++;
    return (ssize_t)fits;
}

ssize_t kernel_recv(kernel_file *file, void *buffer, size_t size)
{
    kernel_flow *in = &file->in;
    if (file->state == TCP_CONNECTING)
        return -EAGAIN;
    if (file->kind != FILE_STREAM || file->state == TCP_FRESH)
        return -ENOTCONN;
    uint64_t there = in->arrived - in->read;
    if (there) {
        if (in->urgent == in->read)
            in->urgent = 0;
        if (in->urgent && in->urgent < in->arrived)
            there = in->urgent - in->read;
        size = there < size ? (size_t)there : size;
        for (size_t i = 0; i < size;) {
            size_t at = (size_t)(in->read % in->ring_size), run = in->ring_size - at;
            run = run < size - i ? run : size - i;
            if (buffer)
                memcpy((char *)buffer + i, in->ring + at, run);
            in->read += run;
            i += run;
        }
        kernel.moves++;
        return (ssize_t)size;
    }
    if (in->fin_arrived)
        return 0;
    if (file->error)
        return take_error(file, 0);
    return file->state == TCP_DEAD ? 0 : -EAGAIN;
}

int kernel_shutdown(kernel_file *file)
{
    bool open = file->kind == FILE_STREAM && file->state == TCP_OPEN && !finished(file);
    kernel_wake((int)(file - kernel.files), 0); /* inet_shutdown does, whatever it says */
    if (!open)
        return -ENOTCONN;
    if (!file->shut)
        kernel.moves++;
    file->shut = true;
    kernel.files[file->other].in.fin = true;
    return 0;
}

static void arrive(int index)
{
    kernel_file *to = &kernel.files[index];
    kernel_flow *in = &to->in;
    uint64_t way = in->written - in->arrived, unread = in->arrived - in->read;
    uint64_t window = kernel.options.receive_room > unread ? kernel.options.receive_room - unread : 0;
    if (way > window)
        way = window;
    if (way && kernel_wrong(WORLD_SLOW))
        way = rng_below(&kernel.noise, 2) ? rng_below(&kernel.noise, (uint32_t)way + 1) : 0;
    if (!way)
        return;
    if (!unread) {
        to->arrived_wait = kernel.waits;
        to->arrived_at = kernel.clock;
    }
    in->arrived += way;
    kernel.moves++;
    kernel_wake(index, EPOLLIN | EPOLLPRI); /* sock_def_readable */
}

void kernel_reset(int index)
{
    kernel_file *from = &kernel.files[index];
    if (from->state != TCP_OPEN)
        return;
    kernel_file *to = &kernel.files[from->other];
    arrive(from->other); /* what was on its way may arrive, the rest is gone */
    to->in.written = to->in.arrived;
    to->in.fin = to->in.fin_arrived;
    from->state = TCP_DEAD;
    to->reset_coming = true;
    kernel.moves++;
}

static void reset_arrives(int index)
{
    kernel_file *file = &kernel.files[index];
    file->reset_coming = false;
    if (file->state != TCP_OPEN)
        return;
    kernel.moves++;
    file->state = TCP_DEAD;
    file->hit = true;
    file->error = file->in.fin_arrived ? EPIPE : ECONNRESET;
    kernel_wake(index, 0);
}

static void connect_arrives(int index)
{
    kernel_file *file = &kernel.files[index];
    bool fails = kernel_wrong(WORLD_CONNECT);
    if (file->target == 2 && !fails)
        return;
    kernel.moves++;
    if (file->target == 1 || fails) {
        file->state = TCP_DEAD;
        file->hit = true;
        file->error = fails ? ETIMEDOUT : ECONNREFUSED;
    } else {
        int end = kernel_file_new(FILE_STREAM);
        kernel_join(index, end);
        kernel.files[end].refs = 1; /* the test's, which fetches it by world_answer */
        kernel.answers[kernel.answer_count++] = end;
    }
    kernel_wake(index, 0);
}

static void move(int index)
{
    kernel_file *to = &kernel.files[index];
    if (to->state == TCP_CONNECTING && !to->closed && !kernel_wrong(WORLD_SLOW))
        connect_arrives(index);
    if (to->other < 0)
        return;
    kernel_flow *in = &to->in;
    kernel_file *from = &kernel.files[to->other];
    if (to->state == TCP_OPEN && to->closed && in->written > in->arrived) {
        kernel_reset(index); /* input after close */
        in->written = in->arrived;
        return;
    }
    if (to->state == TCP_OPEN)
        arrive(index);
    if (from->no_space && from->state == TCP_OPEN && kernel_writable(from)) {
        from->no_space = false;
        kernel.moves++;
        kernel_wake(to->other, EPOLLOUT);
    }
    if (in->fin && !in->fin_arrived && in->arrived == in->written && !kernel_wrong(WORLD_SLOW)) {
        in->fin_arrived = true;
        kernel.moves++;
        kernel_wake(index, 0);
        kernel_wake(to->other, 0); /* it is acknowledged */
    }
    if (to->reset_coming && !kernel_wrong(WORLD_SLOW))
        reset_arrives(index);
}

void kernel_move(void)
{
    for (int i = 0; i < kernel.file_count; i++)
        if (kernel.files[i].kind == FILE_STREAM)
            move(i);
}
