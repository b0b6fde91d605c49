/* What the core calls in place of csrc/syscalls.c, but for epoll and the clock. */
#include "syscalls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "kernel.h"

static int one_of(const int *errors, uint32_t count)
{
    return -errors[rng_below(&kernel.noise, count)];
}
#define ONE_OF(...) one_of((const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))

/* A child of a fork shares its parent's connections: it may close its descriptors, and nothing else. */
static void parents_only(const char *call)
{
    if (kernel.child)
        fail("child", "the child of a fork calls %s on its parent's connection", call);
}

static kernel_file *cores(int fd, const char *call)
{
    kernel_file *file = kernel_file_of(fd);
    parents_only(call);
    if (!kernel.fds[fd].core)
        fail("foreign", "%s of descriptor %d, which is not the core's", call, fd);
    return file;
}

void kernel_address(int file, void *address, socklen_t *size)
{
    struct sockaddr_in name;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_port = htons((uint16_t)(KERNEL_PORT + file));
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(address, &name, *size < sizeof name ? *size : sizeof name);
    *size = sizeof name;
}

int mux_sys_accept(int fd, void *peer, socklen_t *length)
{
    kernel_file *listener = kernel_file_of(fd);
    parents_only("accept");
    if (listener->kind != FILE_LISTENER)
        fail("descriptor", "accept on descriptor %d, which is no listener", fd);
    if (kernel.full)
        return -EMFILE; /* whether or not somebody waits: accept4(2) takes the number first */
    if (kernel_wrong(WORLD_ACCEPT))
        return ONE_OF(EMFILE, ENFILE, ENOMEM, ENOBUFS, EPERM, EPROTO);
    if (kernel_wrong(WORLD_INTERRUPTED))
        return -EINTR;
    if (!listener->waiting_count)
        return -EAGAIN;
    int taken = listener->waiting[0];
    listener->waiting_count--;
    memmove(listener->waiting, listener->waiting + 1,
            (size_t)listener->waiting_count * sizeof *listener->waiting);
    kernel_file *file = &kernel.files[taken];
    file->queued = false;
    kernel.moves++;
    if (kernel_wrong(WORLD_ACCEPT)) {
        file->hit = file->closed = true;
        kernel_reset(taken);
        return -ECONNABORTED;
    }
    kernel_address(file->other, peer, length);
    file->moved_at = kernel.clock;
    int made = kernel_fd_new(taken, true);
    TRACE("    accept: fd %d, port %d", made, KERNEL_PORT + file->other);
    return made;
}

int mux_sys_socket(int family)
{
    (void)family;
    if (kernel.full || kernel_wrong(WORLD_CREATE))
        return -EMFILE;
    return kernel_fd_new(kernel_file_new(FILE_STREAM), true);
}

int mux_sys_connect(int fd, const void *address, socklen_t size)
{
    kernel_file *file = cores(fd, "connect");
    (void)size;
    if (kernel_wrong(WORLD_CONNECT))
        return ONE_OF(ENETUNREACH, EADDRNOTAVAIL, ECONNREFUSED);
    file->target = world_port_in(address);
    file->state = TCP_CONNECTING;
    kernel.moves++;
    return kernel_wrong(WORLD_INTERRUPTED) ? -EINTR : -EINPROGRESS;
}

int mux_sys_name(int fd, void *address, size_t size)
{
    cores(fd, "getsockname");
    (void)address, (void)size;
    return 0; /* nobody has a name here */
}

int mux_sys_error(int fd)
{
    kernel_file *file = cores(fd, "SO_ERROR");
    int error = file->error;
    file->error = 0;
    if (error)
        kernel.moves++;
    return -error;
}

void mux_sys_reset(int fd)
{
    if (!kernel.fds[fd].core)
        fail("foreign", "SO_LINGER of descriptor %d, which is not the core's", fd);
    kernel_file_of(fd)->resets = true; /* also in a child: its parent resets what it has lost as well */
}

ssize_t mux_sys_recv(int fd, void *buffer, size_t size)
{
    kernel_file *file = kernel_file_of(fd);
    if (kernel_wrong(WORLD_INTERRUPTED))
        return -EINTR;
    if (file->kind == FILE_WAKE) {
        uint64_t there = file->in.written - file->in.read;
        size = there < size ? (size_t)there : size;
        file->in.read += size;
        kernel.moves += size;
        return size ? (ssize_t)size : -EAGAIN;
    }
    (void)cores(fd, "recv");
    if (kernel_wrong(WORLD_AGAIN)) {
        kernel_wake(kernel.fds[fd].file, EPOLLIN); /* as if it came only now */
        file->told = file->in.read;
        return -EAGAIN;
    }
    if (kernel_wrong(WORLD_BROKEN)) {
        file->hit = true;
        return ONE_OF(ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM);
    }
    uint64_t there = file->in.arrived - file->in.read;
    if (there > 1 && size > 1 && kernel_wrong(WORLD_SHORT_READ)) {
        size = 1 + rng_below(&kernel.noise, (uint32_t)(there < size ? there : size) - 1);
        kernel_wake(kernel.fds[fd].file, EPOLLIN);
        file->told = file->in.read;
    }
    ssize_t received = kernel_recv(file, buffer, size);
    TRACE("    recv fd %d: %zd (at %lld us)", fd, received, (long long)(kernel.clock / 1000));
    if (received > 0) {
        file->received += (uint64_t)received;
        file->moved_at = kernel.clock;
    }
    return received;
}

/* Input that is dropped: how much, or as recv. */
ssize_t mux_sys_drop(int fd, void *buffer, size_t size)
{
    kernel_file *file = cores(fd, "recv");
    if (kernel_wrong(WORLD_INTERRUPTED))
        return -EINTR;
    if (kernel_wrong(WORLD_BROKEN)) {
        file->hit = true;
        return ONE_OF(ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM);
    }
    (void)buffer;
    ssize_t received = kernel_recv(file, NULL, size);
    if (received > 0) {
        file->forgotten += (uint64_t)received;
        file->moved_at = kernel.clock;
    }
    TRACE("    drop fd %d: %zd", fd, received);
    return received;
}

/* SIOCOUTQ, tcp(7): what was sent and is not acknowledged, a FIN counting as one byte. */
int mux_sys_unacknowledged(int fd)
{
    const kernel_file *file = cores(fd, "SIOCOUTQ");
    if (file->kind != FILE_STREAM || file->state != TCP_OPEN)
        return 0;
    return (int)kernel_on_way(file) + (file->shut && !kernel.files[file->other].in.fin_arrived);
}

ssize_t mux_sys_send(int fd, const struct iovec *parts, int count)
{
    kernel_file *file = cores(fd, "send");
    if (kernel_wrong(WORLD_INTERRUPTED))
        return -EINTR;
    if (kernel_wrong(WORLD_BROKEN)) {
        file->hit = true;
        return ONE_OF(ECONNRESET, EPIPE, ENOBUFS, ETIMEDOUT);
    }
    if (kernel_wrong(WORLD_AGAIN)) {
        file->no_space = true; /* it was full, and the room comes later */
        return -EAGAIN;
    }
    ssize_t sum = 0;
    bool cut = kernel_wrong(WORLD_SHORT_WRITE);
    for (int i = 0; i < count; i++) {
        size_t size = parts[i].iov_len;
        if (cut && size > 1) {
            size = 1 + rng_below(&kernel.noise, (uint32_t)size - 1);
            file->no_space = true;
        }
        ssize_t sent = kernel_send(file, parts[i].iov_base, size);
        if (sent < 0 && !sum)
            sum = sent;
        if (sent > 0)
            sum += sent;
        if (sent != (ssize_t)parts[i].iov_len)
            break;
    }
    TRACE("    send fd %d: %zd", fd, sum);
    if (sum > 0) {
        file->taken += (uint64_t)sum;
        file->sent_at = file->moved_at = kernel.clock;
    }
    return sum;
}

int mux_sys_shutdown_write(int fd)
{
    kernel_file *file = cores(fd, "shutdown");
    if (file->state == TCP_OPEN && kernel_wrong(WORLD_BROKEN)) { /* the network resets both, this moment */
        file->hit = true;
        file->error = ECONNRESET;
        kernel_reset(kernel.fds[fd].file);
    }
    int failed = kernel_shutdown(file);
    if (!failed)
        file->shut_at = kernel.clock;
    TRACE("    shutdown fd %d: %d", fd, failed);
    return failed;
}

int mux_sys_close(int fd)
{
    int index = (int)(kernel_file_of(fd) - kernel.files);
    const kernel_file *file = &kernel.files[index];
    if (!kernel.fds[fd].core)
        fail("foreign", "close of descriptor %d, which is not the core's", fd);
    if (fd == kernel.watched)
        fail("guest", "descriptor %d is closed while a host watches it", fd);
    if (file->in.arrived > file->in.read && file->arrived_wait == kernel.waits)
        kernel.files[index].unseen = true;
    bool waited = file->shut && kernel.clock - file->shut_at >= kernel.options.linger;
    bool marked = file->in.urgent && !(kernel.options.edge); /* what is after it may be unknown */
    kernel.files[index].dropped = file->told > file->in.read && !waited && !marked;
    TRACE("    close fd %d", fd);
    kernel.fds[fd].file = -1;
    kernel_file_put(index);
    return kernel_wrong(WORLD_CLOSE) ? ONE_OF(EINTR, EIO) : 0;
}

/* -- memory: counted in front of each piece, so that the count is of what is there */

static bool no_memory(void)
{
    if (!kernel_wrong(WORLD_MEMORY))
        return false;
    kernel.lost_to_faults++;
    TRACE("    an allocation fails");
    return true;
}

void *mux_sys_allocate(size_t count, size_t size)
{
    if (no_memory())
        return NULL;
    kernel.allocations++;
    return calloc(count, size);
}

void *mux_sys_pages(size_t size)
{
    if (no_memory())
        return NULL;
    kernel.allocations++;
    return malloc(size); /* not aligned: ASan sees the first byte beyond it */
}

void mux_sys_free(void *memory)
{
    kernel.allocations -= memory != NULL;
    free(memory);
}

bool mux_sys_has_forked(void)
{
    return kernel.has_forked;
}

unsigned mux_sys_forks(void)
{
    return kernel.child;
}

uintptr_t mux_sys_thread(void)
{
    return kernel.foreign ? 2 : 1;
}

void mux_sys_wake(int fd)
{
    (void)fd;
    abort(); /* a mover's, and its loop would need a thread: none is here */
}
