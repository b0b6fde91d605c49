/* The simulated kernel: open files, descriptors, TCP and epoll as Linux has them, in one process's memory.
 *
 * kernel.c has files and TCP, kernel_calls.c what the core calls (csrc/syscalls.h), kernel_epoll.c epoll and
 * the clock, kernel_ends.c the remote ends (world.h).
 *
 * What is true to Linux, because the core relies on it or has to bear it:
 * - A descriptor is the lowest free number. A registration belongs to (open file, number), and lives until
 *   the last descriptor of the file is closed, in whatever process.
 * - A file is put on an epoll set's ready list by a wake-up whose key it asked for; what is reported is its
 *   state when epoll_wait looks. An edge-triggered one leaves the list then, a level-triggered one when it
 *   is found not ready (fs/eventpoll.c).
 * - EPOLLOUT is waked for only after a send that met a full buffer (SOCK_NOSPACE), at a third free.
 * - close(2) with unread input resets, and drops what was not sent yet; so does input after close(2).
 * - A reset drops the send queue of who hears it, not his receive queue; it is told once, as ECONNRESET, or
 *   EPIPE after a FIN; recv says 0 after a FIN whatever comes later (net/ipv4/tcp.c, tcp_input.c).
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "rng.h"
#include "world.h"

#define KERNEL_FDS 256
#define KERNEL_FILES 512
#define KERNEL_WATCHES 1024
#define KERNEL_BACKLOG 16
#define KERNEL_PORT 1000 /* of file 0 */

enum kernel_kind { FILE_FREE, FILE_STREAM, FILE_LISTENER, FILE_EPOLL, FILE_WAKE };
enum kernel_state { TCP_FRESH, TCP_CONNECTING, TCP_OPEN, TCP_DEAD };

typedef struct kernel_flow { /* bytes on their way to a file: positions in the whole stream */
    unsigned char *ring;
    uint32_t ring_size;
    uint64_t written, arrived, read;
    uint64_t urgent; /* recv stops here once; 0: nowhere */
    bool fin, fin_arrived;
} kernel_flow;

typedef struct kernel_file {
    uint8_t kind, state;
    int refs; /* descriptors, ends and children that hold it */
    int other;
    kernel_flow in;
    int error;
    int target; /* of a connect: as world_address */
    bool shut, no_space, resets, reset_coming, queued, closed, hit;
    int waiting[KERNEL_BACKLOG], waiting_count;
    uint64_t received, taken, forgotten; /* by recv, send and drop */
    int64_t moved_at, sent_at, shut_at;
    int64_t arrived_at;    /* when the first unread byte arrived */
    uint64_t arrived_wait; /* the number of waits when the first unread byte arrived */
    uint64_t told; /* what had arrived when a wait told of it */
    bool dropped; /* closed with unread input that a wait had told of */
    bool over;             /* its life was told to have ended: what a wait tells of it is not looked at */
    bool unseen;           /* left although bytes had arrived that no wait could have told of */
} kernel_file;

typedef struct kernel_watch {
    int epoll, file, fd; /* epoll: 0: a free entry */
    uint32_t events;
    uint64_t id;
    bool ready;
} kernel_watch;

struct kernel {
    world_options options;
    rng noise;
    bool calm, full, strayed, child, foreign, has_forked;
    int64_t clock;
    uint64_t moves, moves_seen, waits, lost_to_faults;
    int idle_waits;
    int64_t allocations;
    struct {
        int file; /* -1: free */
        bool core; /* the core's to close */
    } fds[KERNEL_FDS];
    kernel_file files[KERNEL_FILES];
    int file_count;
    kernel_watch watches[KERNEL_WATCHES];
    int watch_count;
    int held[KERNEL_FDS], held_count; /* by the child */
    int answers[KERNEL_FILES], answer_count;
    int wake_fd;
    int watched; /* by a loop that the core's is a guest of; -1: none */
};

extern struct kernel kernel;

bool kernel_wrong(uint32_t fault); /* whether this goes wrong now */

int kernel_file_new(enum kernel_kind kind);
void kernel_file_put(int index); /* one holder less */
int kernel_fd_new(int file, bool core); /* or -EMFILE */
kernel_file *kernel_file_of(int fd);    /* fails the run if there is none: the core must know its own */
void kernel_join(int one, int other);

uint64_t kernel_on_way(const kernel_file *from); /* sent and not yet arrived */
bool kernel_writable(const kernel_file *file);
uint32_t kernel_poll(kernel_file *file); /* as tcp_poll */
ssize_t kernel_send(kernel_file *file, const void *data, size_t size);
ssize_t kernel_recv(kernel_file *file, void *buffer, size_t size);
int kernel_shutdown(kernel_file *file);
void kernel_reset(int index); /* send a reset */
void kernel_move(void);       /* let arrive what is on its way */

void kernel_wake(int file, uint32_t key); /* 0: a change of state, which concerns everybody */
void kernel_unwatch(int file);

#endif
