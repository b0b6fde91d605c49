#define _GNU_SOURCE /* accept4 */
#include "syscalls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#ifdef MUX_FAULTS
static struct {
    long calls, fail_from, fail_to;
    int error;
} faults[MUX_CALLS];
int64_t mux_fault_clock;
static long short_send;
static size_t short_size;

void mux_fault(enum mux_call call, long nth, long more, int error)
{
    faults[call].fail_from = nth ? faults[call].calls + nth : 0;
    faults[call].fail_to = faults[call].fail_from + more;
    faults[call].error = error;
}

void mux_fault_short_send(long nth, size_t size)
{
    short_send = nth ? faults[MUX_CALL_SEND].calls + nth : 0;
    short_size = size;
}

long mux_fault_calls(enum mux_call call)
{
    return faults[call].calls;
}

static int faulty(enum mux_call call)
{
    long now = __atomic_add_fetch(&faults[call].calls, 1, __ATOMIC_RELAXED); /* by a mover's thread, too */
    return faults[call].fail_from && now >= faults[call].fail_from && now <= faults[call].fail_to
               ? faults[call].error
               : 0;
}
#define FAULT(call)                                                                                \
    do {                                                                                           \
        int error = faulty(call);                                                                  \
        if (error)                                                                                 \
            return -error;                                                                         \
    } while (0)
#else
#define FAULT(call) (void)0
#endif

int mux_sys_epoll_create(void)
{
    FAULT(MUX_CALL_EPOLL_CREATE);
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int mux_sys_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t id)
{
    FAULT(MUX_CALL_EPOLL_CTL);
    struct epoll_event event = {.events = events, .data = {.u64 = id}};
    return epoll_ctl(epoll, op, fd, &event) < 0 ? -errno : 0;
}

int mux_sys_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms)
{
    FAULT(MUX_CALL_EPOLL_WAIT);
    int ready = epoll_wait(epoll, events, count, timeout_ms);
    return ready < 0 ? -errno : ready;
}

int mux_sys_accept(int fd, void *peer, socklen_t *length)
{
    FAULT(MUX_CALL_ACCEPT);
    int accepted = accept4(fd, peer, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return accepted < 0 ? -errno : accepted;
}

int mux_sys_socket(int family)
{
    FAULT(MUX_CALL_SOCKET);
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    if (family != AF_UNIX) /* it cannot fail on a TCP socket, and would cost only latency */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int mux_sys_connect(int fd, const void *address, socklen_t size)
{
    FAULT(MUX_CALL_CONNECT);
    return connect(fd, address, size) < 0 ? -errno : 0;
}

int mux_sys_name(int fd, void *address, size_t size)
{
    socklen_t length = (socklen_t)size;
    return getsockname(fd, address, &length) < 0 ? -errno : (int)length;
}

int mux_sys_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

void mux_sys_reset(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* else it ends with FIN */
}

ssize_t mux_sys_recv(int fd, void *buffer, size_t size)
{
    FAULT(MUX_CALL_RECV);
    ssize_t received = recv(fd, buffer, size, MSG_DONTWAIT);
    return received < 0 ? -errno : received;
}

ssize_t mux_sys_drop(int fd, void *buffer, size_t size)
{
    FAULT(MUX_CALL_RECV);
    ssize_t received = recv(fd, buffer, size, MSG_DONTWAIT | MSG_TRUNC);
    return received < 0 ? -errno : received;
}

ssize_t mux_sys_send(int fd, const struct iovec *parts, int count)
{
    FAULT(MUX_CALL_SEND);
    struct iovec first = parts[0];
#ifdef MUX_FAULTS
    if (short_send && faults[MUX_CALL_SEND].calls >= short_send) {
        short_send = 0;
        count = 1;
        first.iov_len = first.iov_len < short_size ? first.iov_len : short_size;
    }
#endif
    ssize_t sent;
    if (count == 1) {
        /* sendmsg copies its header in and checks it: about 60 ns more than send */
        sent = send(fd, first.iov_base, first.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = (struct iovec *)(uintptr_t)parts; /* sendmsg does not write to it */
        message.msg_iovlen = (unsigned)count;               /* size_t in glibc, int in musl */
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    return sent < 0 ? -errno : sent;
}

int mux_sys_shutdown_write(int fd)
{
    FAULT(MUX_CALL_SHUTDOWN);
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

int mux_sys_unacknowledged(int fd)
{
    int left = 0;
    return ioctl(fd, TIOCOUTQ, &left) < 0 ? 0 : left;
}

void mux_sys_wake(int fd)
{
    while (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

int mux_sys_close(int fd)
{
    /* close(2), Linux: the descriptor is gone whatever it returns, so never again, not even on EINTR */
    int failed = close(fd) < 0 ? -errno : 0;
    FAULT(MUX_CALL_CLOSE);
    return failed;
}

void *mux_sys_allocate(size_t count, size_t size)
{
#ifdef MUX_FAULTS
    if (faulty(MUX_CALL_ALLOCATE))
        return NULL;
#endif
    return calloc(count, size);
}

void *mux_sys_pages(size_t size)
{
#ifdef MUX_FAULTS
    if (faulty(MUX_CALL_ALLOCATE))
        return NULL;
#endif
    const size_t page = 4096; /* a larger one is no use: what counts is a cache line */
    return aligned_alloc(page, (size + page - 1) / page * page);
}

void mux_sys_free(void *memory)
{
    free(memory);
}

int64_t mux_sys_now(void)
{
#ifdef MUX_FAULTS
    if (mux_fault_clock)
        return mux_fault_clock;
#endif
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uintptr_t mux_sys_thread(void)
{
    return (uintptr_t)pthread_self();
}

static unsigned forks;
static bool has_forked;

static void forks_now(void)
{
    __atomic_store_n(&has_forked, true, __ATOMIC_RELAXED);
}

static void forked(void)
{
    forks++;
}

unsigned mux_sys_forks(void)
{
    static int watched; /* not pthread_once: its version in glibc 2.34 would be the wheel's */
    if (!__atomic_load_n(&watched, __ATOMIC_RELAXED) &&
        !__atomic_exchange_n(&watched, 1, __ATOMIC_RELAXED))
        (void)pthread_atfork(forks_now, NULL, forked); /* ENOMEM: a fork goes unnoticed */
    return forks;
}

bool mux_sys_has_forked(void)
{
    return __atomic_load_n(&has_forked, __ATOMIC_RELAXED);
}
