/* The floor of relaying: the least a copying relay with epoll can do. One thread, level-triggered, one
 * connection to the upstream per client, recv and send in one turn. What a short write leaves over stops
 * the reading of its source until it is gone. No caps, no deadlines: a yardstick, not a relay to use.
 *
 *   cc -O2 -o floor_relay floor_relay.c && ./floor_relay 9000 127.0.0.1:9001
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

#define CHUNK 65536
#define EVENTS 256

struct side {
    int fd, ended;
    unsigned watched;
    struct side *other;
    struct side *next_free; /* freed at the end of the turn: the batch may still name it */
    size_t at, size;        /* what this side is still to be sent */
    char *rest;
};

static char chunk[CHUNK];
static int epoll;
static struct sockaddr_in upstream;
static struct side *graveyard;

static void watch(struct side *side, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = side};
    if (events == side->watched)
        return;
    epoll_ctl(epoll, side->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, side->fd, &event);
    side->watched = events;
}

static void drop(struct side *side)
{
    if (side->fd < 0)
        return;
    for (int i = 0; i < 2; i++, side = side->other) {
        close(side->fd);
        side->fd = -1;
        free(side->rest);
        side->rest = NULL;
        side->next_free = graveyard;
        graveyard = side;
    }
}

/* Read from one side what the other can take: nothing is read while the other has a rest to send. */
static void update(struct side *side)
{
    struct side *other = side->other;
    watch(side, (unsigned)((side->ended || other->rest ? 0 : EPOLLIN) | (side->rest ? EPOLLOUT : 0)) |
                    EPOLLRDHUP);
}

static void finish(struct side *side)
{
    struct side *other = side->other;
    side->ended = 1;
    shutdown(other->fd, SHUT_WR);
    if (other->ended)
        drop(side);
}

static void pass(struct side *side)
{
    struct side *other = side->other;
    ssize_t size = recv(side->fd, chunk, CHUNK, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size < 0) {
        drop(side);
        return;
    }
    if (size == 0) {
        finish(side);
        return;
    }
    ssize_t sent = send(other->fd, chunk, (size_t)size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(side);
        return;
    }
    if (sent < 0)
        sent = 0;
    if (sent == size)
        return;
    other->at = 0;
    other->size = (size_t)(size - sent);
    other->rest = malloc(other->size);
    if (!other->rest) {
        drop(side);
        return;
    }
    memcpy(other->rest, chunk + sent, other->size);
}

static void send_rest(struct side *side)
{
    ssize_t sent = send(side->fd, side->rest + side->at, side->size - side->at, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(side);
        return;
    }
    side->at += (size_t)sent;
    if (side->at == side->size) {
        free(side->rest);
        side->rest = NULL;
    }
}

static void welcome(int listener)
{
    int client, on = 1;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct side *pair[2] = {calloc(1, sizeof **pair), calloc(1, sizeof **pair)};
        int fds[2] = {client, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
        if (!pair[0] || !pair[1] || fds[1] < 0) {
            free(pair[0]);
            free(pair[1]);
            close(client);
            continue;
        }
        connect(fds[1], (struct sockaddr *)&upstream, sizeof upstream);
        for (int i = 0; i < 2; i++) {
            setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            pair[i]->fd = fds[i];
            pair[i]->other = pair[!i];
        }
        update(pair[0]);
        update(pair[1]);
    }
}

static void serve(struct side *side)
{
    if (side->fd >= 0 && side->rest)
        send_rest(side);
    if (side->fd >= 0 && !side->ended && !side->other->rest)
        pass(side);
    if (side->fd >= 0) {
        update(side);
        update(side->other);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct rlimit limit;
    struct side own = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    char *colon = argc > 2 ? strrchr(argv[2], ':') : NULL;
    int on = 1;
    if (!colon) {
        fprintf(stderr, "usage: floor_relay PORT UPSTREAM-IPV4:PORT\n");
        return 2;
    }
    *colon = 0;
    upstream.sin_family = AF_INET;
    upstream.sin_port = htons((unsigned short)atoi(colon + 1));
    inet_pton(AF_INET, argv[2], &upstream.sin_addr);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    setsockopt(own.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (epoll < 0 || bind(own.fd, (struct sockaddr *)&address, length) < 0 ||
        listen(own.fd, SOMAXCONN) < 0 ||
        getsockname(own.fd, (struct sockaddr *)&address, &length) < 0) {
        perror("floor_relay");
        return 1;
    }
    watch(&own, EPOLLIN);
    printf("listening on 127.0.0.1:%d (floor of relays)\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &own)
                welcome(own.fd);
            else
                serve(events[i].data.ptr);
        }
        while (graveyard) {
            struct side *dead = graveyard;
            graveyard = dead->next_free;
            free(dead);
        }
    }
}
