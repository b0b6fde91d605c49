/* The real kernel's make of world.h, on loopback TCP: no faults, no memory of what the core did. */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "syscalls.h"
#include "world.h"

#define BACKLOG 16
#define ENDS_MOST 256

const bool world_simulated = false;

static struct {
    int wake[2], service, refusing;
    int ends[ENDS_MOST], end_count; /* those that are open */
    int watched;
    uint64_t moves;
} real;

static int must(int result, const char *call)
{
    if (result < 0)
        fail("simulation", "%s: %s", call, strerror(errno));
    return result;
}

static int bound(bool listens)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    int on = 1; /* else a short segment waits for an acknowledgement, 40 ms; what is accepted inherits it */
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    must(bind(fd, (struct sockaddr *)&name, sizeof name), "bind");
    if (listens)
        must(listen(fd, BACKLOG), "listen");
    return fd;
}

static uint16_t port(int fd, bool of_peer)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    memset(&name, 0, sizeof name);
    if (of_peer)
        (void)getpeername(fd, (struct sockaddr *)&name, &size); /* none any more: port 0, which nobody has */
    else
        must(getsockname(fd, (struct sockaddr *)&name, &size), "getsockname");
    return ntohs(name.sin_port);
}

static int added(int end)
{
    if (real.end_count == ENDS_MOST)
        fail("simulation", "more than %d ends", ENDS_MOST);
    return real.ends[real.end_count++] = end;
}

static void closed(int end)
{
    for (int i = 0; i < real.end_count; i++)
        if (real.ends[i] == end)
            real.ends[i] = real.ends[--real.end_count];
    close(end);
    real.moves++;
}

void world_begin(const world_options *options)
{
    (void)options;
    real.end_count = 0;
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, real.wake), "socketpair");
    real.service = bound(true);
    real.refusing = bound(false); /* nobody else gets the port, and nobody listens there */
}

void world_end(void)
{
    while (real.end_count)
        closed(real.ends[0]);
    close(real.wake[0]);
    close(real.wake[1]);
    close(real.service);
    close(real.refusing);
}

int world_wake_fd(void)
{
    return real.wake[0];
}

void world_wake(void)
{
    must((int)send(real.wake[1], "", 1, MSG_NOSIGNAL), "send");
}

int world_listener(void)
{
    return bound(true);
}

void world_close(int fd)
{
    close(fd);
}

int world_dial(int listener)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons(port(listener, false))};
    int end = bound(false);
    if (connect(end, (struct sockaddr *)&name, sizeof name) < 0 && errno != EINPROGRESS)
        must(-1, "connect");
    real.moves++;
    return added(end);
}

int world_pair(int *fd)
{
    int listener = bound(true), end = world_dial(listener);
    *fd = must(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), "accept4");
    close(listener);
    return end;
}

socklen_t world_address(int kind, struct sockaddr_storage *address)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons(port(kind ? real.refusing : real.service, false))};
    memcpy(address, &name, sizeof name);
    return sizeof name;
}

int world_answer(void)
{
    int end = accept4(real.service, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (end < 0)
        return -1;
    real.moves++;
    return added(end);
}

uint16_t world_port(int end)
{
    return port(end, false);
}

uint16_t world_peer_port(int end)
{
    return port(end, true);
}

uint16_t world_port_of(int fd)
{
    return port(fd, false);
}

uint16_t world_port_in(const void *address)
{
    struct sockaddr_in name;
    memcpy(&name, address, sizeof name);
    return ntohs(name.sin_port);
}

ssize_t world_send(int end, const void *data, size_t size)
{
    ssize_t sent = send(end, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    real.moves += sent > 0;
    return sent < 0 ? -errno : sent;
}

ssize_t world_recv(int end, void *buffer, size_t size)
{
    ssize_t got = recv(end, buffer, size, MSG_DONTWAIT);
    real.moves += got > 0;
    return got < 0 ? -errno : got;
}

void world_shutdown(int end)
{
    (void)shutdown(end, SHUT_WR); /* after a reset it is not connected, which is as good */
    real.moves++;
}

void world_hang_up(int end)
{
    closed(end);
}

void world_reset(int end)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    must(setsockopt(end, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), "SO_LINGER");
    closed(end);
}

void world_pass(int64_t ns)
{
    struct timespec wait = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    nanosleep(&wait, NULL);
}

void world_settle(void)
{
    int on = 1;
    for (int i = 0; i < real.end_count; i++) /* else they may acknowledge 40 ms later */
        (void)setsockopt(real.ends[i], IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    world_pass(1000000); /* loopback takes some microseconds */
}

int64_t world_now(void)
{
    return mux_sys_now();
}

void world_watch(int fd)
{
    real.watched = fd;
}

bool world_readable(int64_t until)
{
    struct pollfd one = {.fd = real.watched, .events = POLLIN};
    int64_t left = until - world_now();
    int ready = poll(&one, 1, until == INT64_MAX ? -1 : left > 0 ? (int)((left + 999999) / 1000000) : 0);
    return must(ready, "poll") > 0;
}

uint64_t world_moves(void)
{
    return real.moves;
}

bool world_disturbed(void)
{
    return true; /* by whatever else the machine does */
}

const char *world_left(void)
{
    return NULL;
}

/* -- what only the simulated kernel can do or tell */

#define NOTHING(call)                                                                              \
    void call                                                                                      \
    {                                                                                              \
    }
#define ALWAYS(type, call, value)                                                                  \
    type call                                                                                      \
    {                                                                                              \
        return value;                                                                              \
    }

NOTHING(world_noise(uint64_t seed __attribute__((unused))))
NOTHING(world_quiet(bool on __attribute__((unused))))
NOTHING(world_calm(void))
NOTHING(world_give(int fd __attribute__((unused)), bool to_core __attribute__((unused))))
NOTHING(world_fork(bool child __attribute__((unused))))
NOTHING(world_over(int file __attribute__((unused))))
NOTHING(world_stray(void))
NOTHING(world_thread(bool foreign __attribute__((unused))))
NOTHING(world_be_child(void))
NOTHING(world_no_descriptors(bool on __attribute__((unused))))
NOTHING(world_totals(uint64_t *in __attribute__((unused)), uint64_t *dropped __attribute__((unused)),
                     uint64_t *out __attribute__((unused))))
ALWAYS(int, world_other(int end __attribute__((unused))), 1)
ALWAYS(int, world_file(int fd __attribute__((unused))), 1)
ALWAYS(uint64_t, world_received(int file __attribute__((unused))), 0)
ALWAYS(uint64_t, world_taken(int file __attribute__((unused))), 0)
ALWAYS(uint64_t, world_forgotten(int file __attribute__((unused))), 0)
ALWAYS(int64_t, world_sent_at(int file __attribute__((unused))), 0)
ALWAYS(int64_t, world_moved_at(int file __attribute__((unused))), 0)
ALWAYS(int64_t, world_arrived_at(int file __attribute__((unused))), 0)
ALWAYS(bool, world_dead(int file __attribute__((unused))), false)
ALWAYS(bool, world_unread(int file __attribute__((unused))), false)
ALWAYS(bool, world_unseen(int file __attribute__((unused))), false)
ALWAYS(bool, world_told(int file __attribute__((unused))), false)
ALWAYS(bool, world_waits(int file __attribute__((unused))), false)
ALWAYS(bool, world_hit(int file __attribute__((unused))), false)
ALWAYS(bool, world_gone(int file __attribute__((unused))), false)
ALWAYS(bool, world_open(int file __attribute__((unused))), true)
ALWAYS(uint64_t, world_lost_to_faults(void), 0)
