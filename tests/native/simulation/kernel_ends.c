/* The remote ends, and what a test asks of the kernel: world.h on the simulated one. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "fail.h"
#include "kernel.h"

const bool world_simulated = true;

static kernel_file *of(int end)
{
    return &kernel.files[end];
}

void world_begin(const world_options *options)
{
    kernel.options = *options;
    kernel.strayed = kernel.calm = kernel.full = kernel.child = kernel.foreign = kernel.has_forked = false;
    kernel.clock = INT64_C(1000000000000);
    kernel.moves = kernel.moves_seen = kernel.waits = kernel.lost_to_faults = 0;
    kernel.idle_waits = 0;
    kernel.watched = -1;
    kernel.allocations = 0;
    kernel.file_count = kernel.watch_count = kernel.held_count = kernel.answer_count = 0;
    for (int i = 0; i < KERNEL_FDS; i++)
        kernel.fds[i].file = -1;
    (void)kernel_file_new(FILE_FREE); /* file 0 stands for none */
    kernel.wake_fd = kernel_fd_new(kernel_file_new(FILE_WAKE), false);
}

void world_noise(uint64_t seed)
{
    kernel.noise.state = seed;
}

void world_quiet(bool on)
{
    kernel.calm = on;
}

void world_calm(void)
{
    kernel.calm = true;
    kernel.full = false;
    if (kernel.held_count)
        world_fork(false);
}

void world_end(void)
{
}

int world_wake_fd(void)
{
    return kernel.wake_fd;
}

void world_wake(void)
{
    int file = kernel.fds[kernel.wake_fd].file;
    of(file)->in.written++;
    kernel.moves++;
    kernel_wake(file, EPOLLIN);
}

int world_listener(void)
{
    return kernel_fd_new(kernel_file_new(FILE_LISTENER), false);
}

void world_close(int fd)
{
    int file = kernel.fds[fd].file;
    if (file < 0 || kernel.fds[fd].core)
        fail("simulation", "the test closes descriptor %d, which is not its own", fd);
    kernel.fds[fd].file = -1;
    kernel_file_put(file);
}

static int made_end(void)
{
    int end = kernel_file_new(FILE_STREAM);
    of(end)->refs = 1;
    return end;
}

int world_dial(int listener)
{
    int index = kernel.fds[listener].file;
    if (of(index)->waiting_count == KERNEL_BACKLOG)
        return -1;
    int file = kernel_file_new(FILE_STREAM), end = made_end();
    kernel_join(file, end);
    of(file)->queued = true;
    of(index)->waiting[of(index)->waiting_count++] = file;
    kernel.moves++;
    kernel_wake(index, EPOLLIN);
    return end;
}

int world_pair(int *fd)
{
    int file = kernel_file_new(FILE_STREAM), end = made_end();
    kernel_join(file, end);
    of(file)->moved_at = kernel.clock;
    *fd = kernel_fd_new(file, false);
    return end;
}

void world_give(int fd, bool to_core)
{
    kernel.fds[fd].core = to_core;
}

socklen_t world_address(int kind, struct sockaddr_storage *address)
{
    struct sockaddr_in name;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_port = htons((uint16_t)kind);
    memcpy(address, &name, sizeof name);
    return sizeof name;
}

int world_answer(void)
{
    return kernel.answer_count ? kernel.answers[--kernel.answer_count] : -1;
}

uint16_t world_port(int end)
{
    return (uint16_t)(KERNEL_PORT + end);
}

uint16_t world_peer_port(int end)
{
    return (uint16_t)(KERNEL_PORT + of(end)->other);
}

uint16_t world_port_of(int fd)
{
    return (uint16_t)(KERNEL_PORT + kernel.fds[fd].file);
}

uint16_t world_port_in(const void *address)
{
    struct sockaddr_in name;
    memcpy(&name, address, sizeof name);
    return ntohs(name.sin_port);
}

ssize_t world_send(int end, const void *data, size_t size)
{
    ssize_t sent = kernel_send(of(end), data, size);
    if (sent > 1 && kernel_wrong(WORLD_URGENT))
        of(of(end)->other)->in.urgent = of(of(end)->other)->in.written - (uint64_t)sent / 2;
    kernel_move();
    return sent;
}

ssize_t world_recv(int end, void *buffer, size_t size)
{
    return kernel_recv(of(end), buffer, size);
}

void world_shutdown(int end)
{
    (void)kernel_shutdown(of(end));
    kernel_move();
}

void world_hang_up(int end)
{
    kernel_file_put(end);
    kernel_move();
}

void world_reset(int end)
{
    of(end)->resets = true;
    world_hang_up(end);
}

int64_t world_now(void)
{
    return kernel.clock;
}

void world_settle(void)
{
    kernel_move();
    kernel_move(); /* what came of it: room, an answer to a closed connection */
}

void world_pass(int64_t ns)
{
    kernel.clock += ns;
    kernel_move();
}

bool world_disturbed(void)
{
    return !kernel.calm && kernel.options.faults & (WORLD_LATE | WORLD_JUMPS | WORLD_INTERRUPTED);
}

uint64_t world_moves(void)
{
    return kernel.moves;
}

void world_fork(bool child)
{
    for (int i = 0; i < kernel.held_count; i++)
        kernel_file_put(kernel.held[i]);
    kernel.held_count = 0;
    kernel.has_forked = kernel.has_forked || child;
    for (int i = 0; child && i < KERNEL_FDS; i++)
        if (kernel.fds[i].file >= 0) {
            kernel.held[kernel.held_count++] = kernel.fds[i].file;
            of(kernel.fds[i].file)->refs++;
        }
}

void world_stray(void)
{
    if (kernel.full)
        return;
    kernel.strayed = true;
    int file = kernel_file_new(FILE_WAKE);
    of(file)->refs = 1;
    of(file)->in.written = 1; /* always ready */
    for (int i = 0; i < KERNEL_FDS; i++)
        if (kernel.fds[i].file >= 0 && of(kernel.fds[i].file)->kind == FILE_EPOLL) {
            kernel.watches[kernel.watch_count++] = (kernel_watch){
                .epoll = kernel.fds[i].file, .file = file, .fd = KERNEL_FDS + file, .events = EPOLLIN,
                .id = rng_below(&kernel.noise, 8), .ready = true}; /* generation 0: nobody's */
            return;
        }
}

void world_be_child(void)
{
    world_fork(true); /* the parent is who holds them now */
    kernel.child = true;
}

void world_no_descriptors(bool on)
{
    kernel.full = on && !kernel.strayed; /* without a descriptor nobody gets rid of what strays */
}

int world_file(int fd)
{
    return fd < 0 ? 0 : kernel.fds[fd].file;
}

uint64_t world_received(int file)
{
    return of(file)->received;
}

uint64_t world_taken(int file)
{
    return of(file)->taken;
}

int64_t world_moved_at(int file)
{
    return of(file)->moved_at;
}

uint64_t world_forgotten(int file)
{
    return of(file)->forgotten;
}

int64_t world_sent_at(int file)
{
    return of(file)->sent_at;
}

bool world_dead(int file)
{
    return of(file)->state == TCP_DEAD && of(file)->hit;
}

void world_thread(bool foreign)
{
    kernel.foreign = foreign;
}

bool world_unread(int file)
{
    return of(file)->in.arrived > of(file)->in.read;
}

int64_t world_arrived_at(int file)
{
    return of(file)->arrived_at;
}

void world_over(int file)
{
    kernel_file *gone = of(file);
    gone->over = gone->told <= gone->in.read;
    if (gone->in.arrived > gone->in.read && gone->arrived_wait == kernel.waits)
        gone->unseen = true;
}

bool world_unseen(int file)
{
    return of(file)->unseen;
}

bool world_hit(int file)
{
    return of(file)->hit;
}

bool world_told(int file)
{
    return of(file)->dropped;
}

bool world_waits(int file)
{
    return of(file)->queued && !of(file)->closed;
}

int world_other(int end)
{
    return of(end)->other;
}

void world_totals(uint64_t *in, uint64_t *dropped, uint64_t *out)
{
    *in = *dropped = *out = 0;
    for (int i = 0; i < kernel.file_count; i++) {
        *in += of(i)->received;
        *dropped += of(i)->forgotten;
        *out += of(i)->taken;
    }
}

bool world_open(int file)
{
    for (int i = 0; i < KERNEL_FDS; i++)
        if (kernel.fds[i].file == file && kernel.fds[i].core)
            return true;
    return false;
}

bool world_gone(int file)
{
    return of(file)->closed;
}

uint64_t world_lost_to_faults(void)
{
    return kernel.lost_to_faults;
}

const char *world_left(void)
{
    static char what[80];
    for (int i = 0; i < KERNEL_FDS; i++)
        if (kernel.fds[i].file >= 0 && kernel.fds[i].core) {
            snprintf(what, sizeof what, "descriptor %d is open", i);
            return what;
        }
    if (kernel.allocations) {
        snprintf(what, sizeof what, "%lld allocations are not freed", (long long)kernel.allocations);
        return what;
    }
    return NULL;
}
