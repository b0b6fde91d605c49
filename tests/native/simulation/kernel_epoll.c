#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "fail.h"
#include "kernel.h"
#include "syscalls.h"

#define ALWAYS (EPOLLERR | EPOLLHUP) /* epoll_ctl(2): cannot be masked */
#define STEPS 16                     /* in which a wait goes by */
#define SPURIOUS_MOST 20             /* such waits in a row in which an event may come without a reason */
#define IDLE_WAITS_MOST 1000         /* waits that brought nothing forward, and took no time: a spin */

void kernel_wake(int file, uint32_t key)
{
    for (int i = 0; i < kernel.watch_count; i++) {
        kernel_watch *watch = &kernel.watches[i];
        if (watch->epoll && watch->file == file && (!key || key & (watch->events | ALWAYS)))
            watch->ready = true;
    }
}

void kernel_unwatch(int file)
{
    for (int i = 0; i < kernel.watch_count; i++)
        if (kernel.watches[i].file == file || kernel.watches[i].epoll == file)
            kernel.watches[i].epoll = 0;
}

int mux_sys_epoll_create(void)
{
    if (kernel.full || kernel_wrong(WORLD_CREATE))
        return -EMFILE;
    return kernel_fd_new(kernel_file_new(FILE_EPOLL), true);
}

static kernel_watch *find(int epoll, int file, int fd)
{
    kernel_watch *free_one = NULL;
    for (int i = 0; i < kernel.watch_count; i++) {
        kernel_watch *watch = &kernel.watches[i];
        if (watch->epoll == epoll && watch->file == file && watch->fd == fd)
            return watch;
        if (!watch->epoll)
            free_one = watch;
    }
    if (!free_one && kernel.watch_count < KERNEL_WATCHES)
        free_one = &kernel.watches[kernel.watch_count++];
    if (!free_one)
        fail("simulation", "more than %d registrations", KERNEL_WATCHES);
    free_one->epoll = 0;
    return free_one;
}

int mux_sys_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t id)
{
    if (kernel.child)
        fail("child", "the child of a fork changes its parent's epoll set");
    if (kernel_file_of(epoll)->kind != FILE_EPOLL)
        fail("descriptor", "epoll_ctl of %d, which is no epoll set", epoll);
    kernel_file *file = kernel_file_of(fd);
    int index = (int)(file - kernel.files), set = kernel.fds[epoll].file;
    TRACE("    epoll_ctl %s fd %d events %x",
          op == EPOLL_CTL_ADD ? "add" : op == EPOLL_CTL_MOD ? "mod" : "del", fd, events);
    kernel_watch *watch = find(set, index, fd);
    if (op == EPOLL_CTL_ADD ? watch->epoll != 0 : !watch->epoll)
        return op == EPOLL_CTL_ADD ? -EEXIST : -ENOENT;
    if (op == EPOLL_CTL_DEL) {
        if (file->in.arrived > file->in.read && file->arrived_wait == kernel.waits)
            file->unseen = true;
        watch->epoll = 0;
        return 0;
    }
    if (kernel_wrong(WORLD_CONTROL)) {
        file->hit = true;
        kernel.lost_to_faults++;
        TRACE("    epoll_ctl fails");
        return rng_below(&kernel.noise, 2) ? -ENOMEM : -ENOSPC;
    }
    *watch = (kernel_watch){.epoll = set, .file = index, .fd = fd, .events = events, .id = id,
                            .ready = op == EPOLL_CTL_MOD && watch->ready};
    if (kernel_poll(file) & (events | ALWAYS))
        watch->ready = true;
    return 0;
}

static int collect(int set, struct epoll_event *events, int count)
{
    int found = 0, begin = 0;
    if (!kernel.calm && kernel.options.faults & WORLD_LATE && kernel.watch_count)
        begin = (int)rng_below(&kernel.noise, (uint32_t)kernel.watch_count);
    for (int i = 0; i < kernel.watch_count && found < count; i++) {
        kernel_watch *watch = &kernel.watches[(begin + i) % kernel.watch_count];
        if (watch->epoll != set)
            continue;
        bool spurious = kernel.idle_waits < SPURIOUS_MOST && kernel_wrong(WORLD_SPURIOUS);
        if (!watch->ready && !spurious)
            continue;
        if (watch->ready && kernel_wrong(WORLD_LATE))
            continue;
        kernel_file *file = &kernel.files[watch->file];
        uint32_t mask = kernel_poll(file) & (watch->events | ALWAYS);
        watch->ready = mask && !(watch->events & EPOLLET);
        if (spurious && file->kind != FILE_WAKE && file->state != TCP_CONNECTING)
            mask |= watch->events & (rng_below(&kernel.noise, 2) ? EPOLLIN : EPOLLOUT);
        if (!mask)
            continue;
        if (mask & EPOLLIN && !file->over)
            file->told = file->in.arrived;
        events[found].events = mask;
        events[found++].data.u64 = watch->id;
        TRACE("    epoll_wait: fd %d events %x", watch->fd, mask);
    }
    return found;
}

static void count_idle(int found, int timeout)
{
    if (kernel.moves != kernel.moves_seen || (timeout && !found)) {
        kernel.moves_seen = kernel.moves;
        kernel.idle_waits = 0;
    } else if (++kernel.idle_waits > IDLE_WAITS_MOST) {
        fail("spin", "%d waits brought nothing forward; the last: %d events", kernel.idle_waits, found);
    }
}

int mux_sys_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms)
{
    if (kernel_file_of(epoll)->kind != FILE_EPOLL)
        fail("descriptor", "epoll_wait of %d, which is no epoll set", epoll);
    if (kernel_wrong(WORLD_INTERRUPTED)) {
        kernel.clock += timeout_ms > 0 ? timeout_ms * INT64_C(500000) : 1000;
        return -EINTR;
    }
    int set = kernel.fds[epoll].file;
    kernel.clock += 2000;
    kernel_move();
    int found = collect(set, events, count);
    int64_t step = (timeout_ms < 0 ? 1000 : timeout_ms) * INT64_C(1000000) / STEPS;
    for (int i = 0; timeout_ms && !found; i++) {
        if (i == STEPS && timeout_ms > 0)
            break;
        if (i > 1000 * STEPS)
            fail("hang", "a wait for ever, and nothing is to come");
        kernel.clock += step;
        kernel_move();
        found = collect(set, events, count);
    }
    count_idle(found, timeout_ms);
    kernel.waits++;
    return found;
}

/* -- the set in a set: ep_eventpoll_poll of fs/eventpoll.c */

static bool readable(int set)
{
    if (kernel.idle_waits < SPURIOUS_MOST && kernel_wrong(WORLD_SPURIOUS))
        return true;
    for (int i = 0; i < kernel.watch_count; i++) {
        kernel_watch *watch = &kernel.watches[i];
        if (watch->epoll != set || !watch->ready)
            continue;
        if (kernel_poll(&kernel.files[watch->file]) & (watch->events | ALWAYS))
            return true;
        watch->ready = false;
    }
    return false;
}

void world_watch(int fd)
{
    if (fd >= 0 && kernel_file_of(fd)->kind != FILE_EPOLL)
        fail("descriptor", "a host is to watch %d, which is no epoll set", fd);
    kernel.watched = fd;
}

bool world_readable(int64_t until)
{
    const int set = kernel.fds[kernel.watched].file;
    const int64_t wait = until == INT64_MAX ? INT64_C(1000000000) : until - kernel.clock;
    kernel_move();
    for (int i = 0; !readable(set); i++) {
        if (i > 1000 * STEPS)
            fail("hang", "a host waits for ever, and nothing is to come");
        if (kernel.clock >= until)
            return false;
        kernel.clock += wait / STEPS + 1;
        kernel.idle_waits = 0; /* it did not spin */
        kernel_move();
    }
    return true;
}

int64_t mux_sys_now(void)
{
    kernel.clock += 100 + rng_below(&kernel.noise, 1000);
    if (kernel_wrong(WORLD_JUMPS))
        kernel.clock += (int64_t)rng_below(&kernel.noise, 300) * 1000000;
    TRACE("    now: %lld us", (long long)(kernel.clock / 1000));
    return kernel.clock;
}
