/* The floor: the least an echo server with epoll can do for a message. One thread, level-triggered,
 * recv and send in one turn, no caps, no deadlines, no backpressure beyond "stop reading while the
 * rest waits". It is a yardstick, not a server: nothing that serves properly can beat it by much.
 *
 *   cc -O2 -o floor_echo floor_echo.c && ./floor_echo 9000
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536   /* the same as muxcore's default read_chunk */
#define EVENTS 256

struct rest {         /* what a short write left over: rare, so it is allocated then */
    size_t at, size;
    char bytes[CHUNK];
};

static _Alignas(4096) char chunk[CHUNK]; /* as muxcore's: the kernel copies faster into it */
static struct rest **rests; /* by descriptor */
static int epoll;

static void drop(int fd)
{
    free(rests[fd]);
    rests[fd] = NULL;
    close(fd);
}

static void watch(int fd, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, operation, fd, &event) < 0)
        drop(fd);
}

static void welcome(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void keep(int fd, size_t from, size_t size)
{
    rests[fd] = malloc(sizeof *rests[fd]);
    if (!rests[fd]) {
        drop(fd);
        return;
    }
    rests[fd]->at = 0;
    rests[fd]->size = size;
    memcpy(rests[fd]->bytes, chunk + from, size);
    watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
}

static void echo(int fd)
{
    ssize_t size = recv(fd, chunk, CHUNK, 0);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN)
            drop(fd);
        return;
    }
    ssize_t sent = send(fd, chunk, (size_t)size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        drop(fd);
    else if (sent < size)
        keep(fd, sent < 0 ? 0 : (size_t)sent, (size_t)(size - (sent < 0 ? 0 : sent)));
}

static void send_rest(int fd)
{
    struct rest *rest = rests[fd];
    ssize_t sent = send(fd, rest->bytes + rest->at, rest->size - rest->at, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(fd);
        return;
    }
    rest->at += (size_t)sent;
    if (rest->at < rest->size)
        return;
    free(rest);
    rests[fd] = NULL;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    struct rlimit limit;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    rests = calloc(limit.rlim_max, sizeof *rests);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!rests || epoll < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 ||
        listen(listener, SOMAXCONN) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
        perror("floor_echo");
        return 1;
    }
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    printf("listening on 127.0.0.1:%d (floor)\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                welcome(listener);
            else if (rests[fd])
                send_rest(fd);
            else
                echo(fd);
        }
    }
}
