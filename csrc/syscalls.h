/* Every system call of the core, and the only file that makes one.
 *
 * Each wrapper returns what the call returns, or -errno: errno itself is read in one place. Built with
 * MUX_FAULTS, the n-th call of a kind can be made to fail, so that tests can prove what follows.
 *
 * Nothing newer than glibc 2.17 and Linux 2.6.32 is assumed of the headers; musl has the same calls.
 */
#ifndef MUX_SYSCALLS_H
#define MUX_SYSCALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

enum mux_call {
    MUX_CALL_EPOLL_CREATE,
    MUX_CALL_EPOLL_CTL,
    MUX_CALL_EPOLL_WAIT,
    MUX_CALL_ACCEPT,
    MUX_CALL_SOCKET,
    MUX_CALL_CONNECT,
    MUX_CALL_RECV,
    MUX_CALL_SEND,
    MUX_CALL_SHUTDOWN,
    MUX_CALL_CLOSE,
    MUX_CALL_ALLOCATE,
    MUX_CALLS
};

int mux_sys_epoll_create(void);
int mux_sys_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t id);
int mux_sys_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms);

/* Non-blocking and close-on-exec; `peer` receives at most *length bytes. */
int mux_sys_accept(int fd, void *peer, socklen_t *length);

/* A stream socket, non-blocking, close-on-exec, with TCP_NODELAY unless it is a unix one. */
int mux_sys_socket(int family);
int mux_sys_connect(int fd, const void *address, socklen_t size);
/* Where a socket is bound: the size of the address, of which at most `size` bytes are written. */
int mux_sys_name(int fd, void *address, size_t size);
int mux_sys_error(int fd);  /* SO_ERROR: what a connection failed with, as -errno; 0: it did not */
void mux_sys_reset(int fd); /* let its close send a reset: SO_LINGER with 0 s, socket(7) */

/* MSG_DONTWAIT in both: whoever else holds the file may have made it blocking. */
ssize_t mux_sys_recv(int fd, void *buffer, size_t size);
/* Receive and forget: MSG_TRUNC, tcp(7), copies nothing; a unix socket's bytes go to `buffer` all the same. */
ssize_t mux_sys_drop(int fd, void *buffer, size_t size);
/* MSG_NOSIGNAL: a peer that is gone is EPIPE, not SIGPIPE. */
ssize_t mux_sys_send(int fd, const struct iovec *parts, int count);
int mux_sys_shutdown_write(int fd);
/* What the peer has not acknowledged, bytes and FIN: SIOCOUTQ (TIOCOUTQ), tcp(7). 0 where that cannot be told. */
int mux_sys_unacknowledged(int fd);
int mux_sys_close(int fd);
/* A byte for a loop's wake descriptor, by its other end; where that is full the loop is awake already. */
void mux_sys_wake(int fd);

/* Zeroed memory or NULL; here so that tests can make it fail as well, and count what is given back. */
void *mux_sys_allocate(size_t count, size_t size);
/* Memory from the start of a page, not zeroed, or NULL: the kernel copies into a misaligned buffer more slowly
 * (16 KiB: 1 % to a third, by machine), and malloc's large blocks begin 16 bytes behind a page's start. */
void *mux_sys_pages(size_t size);
void mux_sys_free(void *memory);

int64_t mux_sys_now(void); /* CLOCK_MONOTONIC, ns: what Python's time.monotonic_ns() reads */
uintptr_t mux_sys_thread(void); /* this thread, never 0 */
/* How many forks this process is away from the first that asked. Not getpid(2): glibc caches it no longer, and
 * one a poll was 1 % of a message. A clone(2) that libc does not know of is not counted. */
unsigned mux_sys_forks(void);
bool mux_sys_has_forked(void); /* since the first asked for that: a child may hold what was open then */

#ifdef MUX_FAULTS
/* The nth call of a kind from now on (1 is the next) fails with `error`, and so do the `more` after it. */
void mux_fault(enum mux_call call, long nth, long more, int error);
/* The nth send from now on takes at most `size` bytes. */
void mux_fault_short_send(long nth, size_t size);
long mux_fault_calls(enum mux_call call); /* how often it was called so far */
extern int64_t mux_fault_clock;           /* what the clock says; 0: the time */
#endif

#endif
