/* The world around the core: the remote ends of its connections, and what else only a test does.
 *
 * It has two makes. kernel*.c are a simulated kernel, which the core is linked with in place of
 * csrc/syscalls.c; world_real.c is the real one. What a script does is the same on both, but for faults,
 * which a real kernel does not make to order (world_simulated says whether it can).
 *
 * A remote end is named by a number ("end"); descriptors are what the core gets, or the test owns.
 */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* What can go wrong in the simulated kernel, each a bit of world_options.faults. */
enum {
    WORLD_SHORT_READ = 1,    /* recv returns less than there is; the rest is as if it came later */
    WORLD_SHORT_WRITE = 2,   /* send takes less than there is room for */
    WORLD_AGAIN = 4,         /* EAGAIN although epoll said ready */
    WORLD_INTERRUPTED = 8,   /* EINTR */
    WORLD_BROKEN = 16,       /* recv, send fail with an errno of the network */
    WORLD_ACCEPT = 32,       /* accept fails: EMFILE, ENOMEM, ECONNABORTED, … */
    WORLD_CONTROL = 64,      /* epoll_ctl fails with ENOSPC or ENOMEM */
    WORLD_MEMORY = 128,      /* an allocation fails */
    WORLD_CREATE = 256,      /* epoll_create1, socket fail with EMFILE */
    WORLD_CONNECT = 512,     /* connect fails at once, or later */
    WORLD_CLOSE = 1024,      /* close says EINTR or EIO, and has closed */
    WORLD_SPURIOUS = 2048,   /* an event without a reason */
    WORLD_LATE = 4096,       /* events are told later, and in any order */
    WORLD_SLOW = 8192,       /* bytes, FIN and RST take time to arrive */
    WORLD_JUMPS = 16384,     /* the clock jumps ahead */
    WORLD_URGENT = 32768,    /* recv stops at an urgent mark, tcp(7): short, and not empty */
    WORLD_FAULTS = 65535
};

typedef struct world_options {
    uint32_t faults;
    uint32_t rate; /* how many of 1,024 calls meet a given fault */
    uint32_t send_room, receive_room; /* bytes of a socket's buffers */
    bool edge;
    int64_t linger; /* ns: what the core is told, so that a close may be judged */
} world_options;

extern const bool world_simulated;

void world_begin(const world_options *options);
void world_noise(uint64_t seed);    /* what goes wrong next follows from this */
void world_quiet(bool on);        /* nothing goes wrong, for the time being */
void world_calm(void);              /* from now on nothing goes wrong, and nothing is late */
void world_end(void);               /* free what the test owns */

int world_listener(void); /* a listening descriptor, for mux_listen; the test's own */
int world_wake_fd(void);  /* the descriptor for mux_options.wake; the test's own */
void world_wake(void);
void world_close(int fd); /* close a descriptor of the test's own */

int world_dial(int listener);      /* the end of a new connection to a listener; -1: its backlog is full */
int world_pair(int *fd);           /* an end, and the test's descriptor that it is connected with */
void world_give(int fd, bool to_core);
/* Where to connect to. 0: somebody accepts; 1: refused; 2: nobody answers (as 1 on the real kernel). */
socklen_t world_address(int kind, struct sockaddr_storage *address);
int world_answer(void);            /* an end that the core has connected to us; -1: none waits */

uint16_t world_port(int end);             /* what the core is told of the peer */
uint16_t world_peer_port(int end);
uint16_t world_port_of(int fd);
uint16_t world_port_in(const void *address);

ssize_t world_send(int end, const void *data, size_t size);
ssize_t world_recv(int end, void *buffer, size_t size); /* 0: EOF; or -errno */
void world_shutdown(int end);
void world_hang_up(int end); /* close(2) */
void world_reset(int end);

int64_t world_now(void);
void world_settle(void); /* let arrive what is on its way */
void world_pass(int64_t ns); /* let time pass */
void world_watch(int fd); /* a host of the core's loop watches this descriptor, and no other; -1: none */
bool world_readable(int64_t until); /* let time pass until it is; false: it is not by then */
bool world_disturbed(void);  /* waits may be late or interrupted, or the clock jumps */
uint64_t world_moves(void);  /* grows whenever anything happens */

/* What only the simulated kernel can do or tell. */
void world_fork(bool child);      /* a forked child holds every descriptor of now, or ends */
void world_stray(void);           /* a forked child watches a file of its own in the core's epoll set */
void world_thread(bool foreign);  /* the core is called by a thread that does not run it */
void world_be_child(void);        /* from now on this process is the child */
void world_no_descriptors(bool on); /* whatever makes a descriptor fails with EMFILE */
int world_other(int end);         /* the file that it is connected with */
int world_file(int fd);           /* what it stands for, also when the number is used again */
uint64_t world_received(int file); /* how much the core has received from it, and sent */
uint64_t world_taken(int file);
uint64_t world_forgotten(int file); /* received and dropped */
int64_t world_sent_at(int file);
bool world_dead(int file);        /* a reset has arrived, or it could not be connected */
int64_t world_moved_at(int file); /* when a byte last moved, as the core saw it */
bool world_unread(int file);      /* bytes have arrived and nobody has read them */
int64_t world_arrived_at(int file); /* when the first of them did */
void world_over(int file);        /* it has ended, unless input waits, and is yet to be released */
bool world_unseen(int file);      /* it was left although bytes had arrived, with no wait in between */
bool world_hit(int file);         /* a fault, or the network, has broken it */
bool world_open(int file);        /* the core has a descriptor of it */
bool world_gone(int file);        /* nobody holds it any more */
bool world_told(int file);        /* it was left with input unread of which a wait had told */
bool world_waits(int file);       /* nobody has accepted it */
void world_totals(uint64_t *in, uint64_t *dropped, uint64_t *out);
uint64_t world_lost_to_faults(void); /* failures that may end a connection: memory, epoll_ctl */
const char *world_left(void);     /* what the core has not given back, or NULL */

#endif
