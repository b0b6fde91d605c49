/* Every system call failing at each of its first calls, on real sockets under both triggers: no crash, no
 * leak, no spin, and no harm to any connection but the one that was hit.
 *
 * MUXCORE_FAULT_DEPTH: how many calls of each kind; 12 if it is not set.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "loop.h"
#include "syscalls.h"

#define CLIENTS 4
#define MESSAGES 3
#define TURNS_MOST 5000 /* of one scenario; without a fault it takes about 30 */
#define MS 1000000LL

static int descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static int listening(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(!bind(fd, (struct sockaddr *)address, size) && !listen(fd, 16));
    CHECK(!getsockname(fd, (struct sockaddr *)address, &size));
    return fd;
}

/* What Python would do with a batch, for the connection it sees: send back, and release. */
static void answer(mux_loop *loop, int count, uint32_t seen, uint32_t generation, bool *over)
{
    for (int i = 0; i < count; i++) {
        const mux_event event = mux_loop_events(loop)[i];
        if (event.slot != seen)
            continue; /* the listener's trouble */
        if (event.kind == MUX_EV_DATA)
            mux_send(loop, seen, generation, mux_loop_arena(loop) + event.data, (size_t)event.value);
        else if (event.kind == MUX_EV_EOF) {
            mux_write_eof(loop, seen, generation);
            mux_close(loop, seen, generation);
        } else if (event.kind == MUX_EV_LOST) {
            *over = mux_release(loop, seen, generation) == 0;
        }
    }
}

/* Four clients of an echo, one of them served by events. Returns how many got all of their bytes, or -1
 * if the loop could not be made or ended with an error. */
static int scenario(int edge)
{
    int wake[2], clients[CLIENTS + 1], served = 0;
    size_t got[CLIENTS + 1] = {0};
    mux_stats stats = {0};
    struct sockaddr_in address;
    int listener = listening(&address);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wake));
    const char *failed;
    int error;
    mux_options options = {.connections = 100, .read_chunk = 4096, .high = 8192, .low = 1024,
                           .accept_pause = MS, .reads = 4, .accepts = 4, .wake = wake[0],
                           .edge = edge, .stats = &stats};
    mux_loop *loop = mux_loop_new(&options, &failed, &error);
    if (!loop) {
        CHECK(*failed && error);
        served = -1;
        goto close;
    }
    if (mux_listen(loop, listener, MUX_VERB_ECHO, 0) < 0) {
        served = -1;
        goto free;
    }
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(!connect(clients[i], (struct sockaddr *)&address, sizeof address));
    }
    int pair[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    clients[CLIENTS] = pair[0];
    uint32_t generation = 0;
    int64_t adopted = mux_adopt(loop, pair[1], MUX_VERB_NONE, 1, &generation);
    bool over = adopted < 0;
    if (over)
        close(pair[1]);
    static char message[3000];
    for (int sent = 0, turn = 0; turn < 60; turn++) {
        for (int i = 0; sent < MESSAGES && i <= CLIENTS; i++)
            (void)send(clients[i], message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent++ == MESSAGES)
            for (int i = 0; i <= CLIENTS; i++)
                shutdown(clients[i], SHUT_WR);
        int count = mux_loop_poll(loop, mux_sys_now() + 2 * MS);
        if (count < 0) {
            served = -1;
            break;
        }
        answer(loop, count, (uint32_t)adopted, generation, &over);
        int ended = 0;
        for (int i = 0; i <= CLIENTS; i++) {
            char back[16384];
            ssize_t size;
            while ((size = recv(clients[i], back, sizeof back, MSG_DONTWAIT)) > 0)
                got[i] += (size_t)size;
            ended += size == 0 || errno != EAGAIN;
        }
        if (ended == CLIENTS + 1 && over && !stats.open)
            break;
    }
    CHECK(stats.turns < TURNS_MOST);
    for (int i = 0; i <= CLIENTS; i++) {
        if (served >= 0)
            served += got[i] == MESSAGES * sizeof message;
        close(clients[i]);
    }
free:
    mux_loop_free(loop);
close:
    close(listener);
    close(wake[0]);
    close(wake[1]);
    return served;
}

static void matrix(enum mux_call call, const int *errors)
{
    const char *asked = getenv("MUXCORE_FAULT_DEPTH");
    int depth = asked ? atoi(asked) : 12;
    for (int edge = 0; edge < 2; edge++)
        for (const int *error = errors; *error; error++)
            for (int nth = 1; nth <= depth; nth++)
                for (int more = 0; more < 4; more += 3) {
                    int before = descriptors();
                    mux_fault(call, nth, more, *error);
                    int served = scenario(edge);
                    mux_fault(call, 0, 0, 0);
                    CHECK_EQUAL(descriptors(), before);
                    /* these hit no connection: every client has to be served all the same */
                    bool harmless = *error == EINTR || call == MUX_CALL_ACCEPT || call == MUX_CALL_CLOSE;
                    if (served >= 0 && served < (harmless ? CLIENTS + 1 : CLIENTS - more)) {
                        fprintf(stderr, "%s, call %d of kind %d failing %d times: %d of %d served\n",
                                strerror(*error), nth, call, more + 1, served, CLIENTS + 1);
                        exit(1);
                    }
                    CHECK_EQUAL(scenario(edge), CLIENTS + 1); /* and nothing stays behind */
                }
}

#define MATRIX(sentence, call, ...)                                                                \
    TEST(sentence)                                                                                 \
    {                                                                                              \
        static const int errors[] = {__VA_ARGS__, 0};                                              \
        matrix(call, errors);                                                                      \
    }

TEST(without_a_fault_every_client_is_served)
{
    CHECK_EQUAL(scenario(0), CLIENTS + 1);
    CHECK_EQUAL(scenario(1), CLIENTS + 1);
}

MATRIX(a_failing_epoll_create_is_reported, MUX_CALL_EPOLL_CREATE, EMFILE, ENOMEM)
MATRIX(a_failing_epoll_ctl_ends_one_connection, MUX_CALL_EPOLL_CTL, ENOSPC, ENOMEM)
MATRIX(a_failing_epoll_wait_is_repeated_or_reported, MUX_CALL_EPOLL_WAIT, EINTR, EBADF)
MATRIX(a_failing_accept_harms_nobody, MUX_CALL_ACCEPT, EMFILE, ENFILE, ENOMEM, ENOBUFS, ECONNABORTED,
       EPROTO, EINTR)
MATRIX(a_failing_recv_ends_one_connection, MUX_CALL_RECV, ECONNRESET, ETIMEDOUT, ENOMEM, EINTR)
MATRIX(a_failing_send_ends_one_connection, MUX_CALL_SEND, EPIPE, ECONNRESET, ENOBUFS)
MATRIX(a_failing_shutdown_ends_one_connection, MUX_CALL_SHUTDOWN, ENOTCONN)
MATRIX(a_failing_close_is_never_repeated, MUX_CALL_CLOSE, EIO, EINTR)
MATRIX(a_failing_allocation_ends_one_connection, MUX_CALL_ALLOCATE, ENOMEM)

/* Under an edge trigger it is tried before the wait, which has to know of the next rest all the same. */
TEST(a_listener_that_fails_again_and_again_is_tried_again_and_again)
{
    for (int edge = 0; edge < 2; edge++) {
        int wake[2];
        mux_stats stats = {0};
        struct sockaddr_in address;
        int listener = listening(&address), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wake));
        const char *failed;
        int error;
        mux_options options = {.connections = 100, .read_chunk = 4096, .high = 8192, .low = 1024,
                               .accept_pause = MS, .reads = 4, .accepts = 4, .wake = wake[0],
                               .edge = edge, .stats = &stats};
        mux_loop *loop = mux_loop_new(&options, &failed, &error);
        CHECK(loop);
        CHECK(mux_listen(loop, listener, MUX_VERB_NONE, 1) >= 0);
        CHECK(!connect(client, (struct sockaddr *)&address, sizeof address));
        mux_fault(MUX_CALL_ACCEPT, 1, 3, EMFILE);
        CHECK_EQUAL(mux_loop_poll(loop, mux_sys_now() + 10000 * MS), 1);
        CHECK_EQUAL(mux_loop_events(loop)->kind, MUX_EV_TROUBLE);
        CHECK_EQUAL(mux_loop_poll(loop, mux_sys_now() + 10000 * MS), 1);
        CHECK_EQUAL(mux_loop_events(loop)->kind, MUX_EV_ACCEPTED);
        CHECK_EQUAL(stats.accept_errors, 4);
        mux_loop_free(loop);
        close(client);
        close(listener);
        close(wake[0]);
        close(wake[1]);
    }
}

TEST(a_short_send_loses_nothing)
{
    for (int edge = 0; edge < 2; edge++)
        for (int nth = 1; nth <= 12; nth++)
            for (size_t size = 1; size < 3000; size = size * 3 + 1) {
                mux_fault_short_send(nth, size);
                CHECK_EQUAL(scenario(edge), CLIENTS + 1);
            }
    mux_fault_short_send(0, 0);
}
