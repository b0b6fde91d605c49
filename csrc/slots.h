/* The slot table: the core's record of one connection or listener, named by (slot, generation).
 *
 * Invariants:
 * - A slot never moves: a pointer to it is good until the table is freed.
 * - The generation is odd while a slot is in use and even while it is free, and grows at each change,
 *   so a name from an earlier life never matches. Generation 0 is never in use: id 0 names nothing.
 * - A slot is freed at most once a life, and never within a turn: by the loop between two turns if Python
 *   does not see it (any more), or if a mover takes its connection (moved.c); by mux_release if Python does.
 *   Nothing else ends a life, so whoever holds a pointer within a turn may go on reading it.
 * - An idle connection owns its slot, at most 128 bytes, and nothing more.
 */
#ifndef MUX_SLOTS_H
#define MUX_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sendq.h"

#define MUX_NONE UINT32_MAX     /* no slot */
#define MUX_NO_BUCKET UINT8_MAX /* in no deadline's wheel */

/* In the order that a connection goes through them; from MUX_LINGERING on its protocol's part is over. */
enum mux_state {
    MUX_FREE,
    MUX_LISTENER,
    MUX_CONNECTING,
    MUX_MOVED, /* a mover has it: moved.h */
    MUX_OPEN,
    MUX_CLOSING,   /* what is queued is sent; what comes is dropped */
    MUX_LINGERING, /* all is sent, our FIN too; what comes is dropped until the peer has it all */
    MUX_LOST
};

/* What becomes of a connection's bytes: a file and a line in verbs.c each. */
enum mux_verb { MUX_VERB_NONE, MUX_VERB_ECHO, MUX_VERB_DISCARD, MUX_VERB_RELAY, MUX_VERBS };

/* Reasons for not reading; reading is on while there is none. */
enum {
    MUX_HOLD_PYTHON = 1,  /* the transport asked for it */
    MUX_HOLD_BACKLOG = 2, /* a verb has more to send than the high-water mark: here, or to the peer */
    MUX_HOLD_EOF = 4,     /* the peer has ended */
    MUX_HOLD_REST = 8,    /* a listener at the cap, or after a failed accept */
    MUX_HOLD_FIRST = 16,  /* with MUX_HOLD_EOF, under a relay: its peer had not ended yet */
    MUX_HOLD_GONE = 32,   /* its handle is a mover's, or was */
    MUX_HOLD_RATE = 64    /* it waits for its rates: rate.h */
};

/* Counters are read by other threads: stored in one piece, ordered against nothing. With 32 bits that
 * would take a library (libatomic); there a reader may meet one half of a carry. */
#if UINTPTR_MAX > UINT32_MAX
#define MUX_SET_COUNT(field, value) __atomic_store_n(&(field), (uint64_t)(value), __ATOMIC_RELAXED)
#define MUX_COUNTED(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE) /* what follows is read later */
#else
#define MUX_SET_COUNT(field, value) ((field) = (uint64_t)(value))
#define MUX_COUNTED(field) (field)
#endif
#define MUX_COUNT(field, more) MUX_SET_COUNT(field, (field) + (uint64_t)(more))

struct mux_mover;
struct mux_transit;

/* What a slot has in place of its deadlines and lists while a mover has the connection: moved.h. */
typedef struct mux_moved {
    struct mux_mover *mover;
    struct mux_slot *next;  /* in the queue that it is in */
    struct mux_slot *there; /* atomic: the mover's slot for it; NULL: not yet, or no more */
    union {
        struct mux_transit *transit; /* while it is going */
        struct mux_slot *other;      /* then: the mover's slot for its peer, where that has none here */
    };
    uint8_t queued;  /* atomic: it is in a queue */
    uint8_t asked;   /* atomic: MUX_ASK_… */
    uint8_t going;   /* the mover has yet to take the pair */
    uint8_t pending; /* slots of the mover that it stands for, and that have not ended */
    uint8_t carries; /* it counts for its peer, too: 1: in `open`; 2: in `outgoing` */
} mux_moved;

typedef struct mux_slot {
    uint32_t index;
    uint32_t generation;
    int32_t handle;      /* the backend's: a descriptor, or whatever it has instead */
    uint32_t armed;      /* the backend's: what it watches for */
    uint8_t state;       /* enum mux_state */
    uint8_t verb;        /* enum mux_verb; of a listener: what its connections get */
    uint8_t hold;        /* reasons for not reading */
    uint8_t todo;        /* the backend's: what is to be done in the next turn */
    uint8_t wheel_at;    /* wheel.c: the bucket, or MUX_NO_BUCKET */
    bool seen : 1;       /* Python has an object for it; of a listener: for its connections */
    bool eof_wanted : 1; /* send EOF once the queue is empty */
    bool choked : 1;     /* has been above high water, and not yet at low water again; of a listener: its
                          * last accept failed */
    bool shared : 1;     /* its descriptor came from outside or was lent: others may hold the file */
    bool outgoing : 1;   /* we connected */
    bool abortive : 1;   /* it ends with a reset: RST instead of FIN */
    bool unread : 1;     /* bytes may wait that nobody has received: closing now would be a reset */
    bool told : 1;       /* of its end: Python, if it sees it */
    uint16_t gathered;   /* gather.c: 1 + the first of its writes in this crossing; 0: none */
    uint32_t high, low;  /* water marks, bytes */
    uint32_t peer;       /* under MUX_VERB_RELAY: the other side, or MUX_NONE */
    uint32_t next;       /* in the free list, or in the batch's of those that have ended */
    mux_sendq queue;     /* what the kernel has not taken yet */
    uint64_t bytes_in, bytes_out;
    union {
        struct {
            int64_t moved_at; /* ns; when a byte last moved that the state's deadline counts */
            uint32_t wheel_next, wheel_prev; /* wheel.c */
            uint32_t half_closed_next, half_closed_prev; /* verb_relay.c: those that ended before their peer */
            union {
                int64_t half_closed_at; /* ns; when that was; 0: not among them */
                int64_t linger_until;   /* ns; of one that is lingering, and so has no peer any more */
            };
            uint32_t todo_next, todo_prev; /* the backend's list of those with something to do */
        };
        mux_moved moved; /* under MUX_MOVED */
    };
    union {
        uint32_t delivered; /* the batch that has data of it */
        uint32_t answered;  /* under MUX_VERB_RELAY: when its peer's first byte came; see MUX_EV_LOST */
    };
    int32_t error;       /* why it was lost: errno, MUX_IDLE and the like, or 0 */
} mux_slot;

typedef struct mux_slots {
    mux_slot **blocks;
    uint32_t block_count; /* allocated */
    uint32_t used;        /* slots handed out at least once */
    uint32_t cap;
    uint32_t free; /* head of the free list */
} mux_slots;

int mux_slots_open(mux_slots *slots, uint32_t cap); /* 0 or -ENOMEM */
void mux_slots_close(mux_slots *slots);
mux_slot *mux_slots_take(mux_slots *slots); /* zeroed but for its name; NULL: no memory, or at the cap */
void mux_slots_give_back(mux_slots *slots, mux_slot *slot);
void mux_slots_unlink(mux_slot *slot); /* it is in no list, and has no deadline */

#define MUX_BLOCK_BITS 10 /* 1,024 slots a block: 128 KiB, and no copying as the table grows */

static inline mux_slot *mux_slots_at(const mux_slots *slots, uint32_t index)
{
    return &slots->blocks[index >> MUX_BLOCK_BITS][index & ((1u << MUX_BLOCK_BITS) - 1)];
}

/* The slot of this name, or NULL if that life is over. */
static inline mux_slot *mux_slots_find(const mux_slots *slots, uint32_t index, uint32_t generation)
{
    if (index >= slots->used)
        return NULL;
    mux_slot *slot = mux_slots_at(slots, index);
    return slot->generation == generation && slot->state != MUX_FREE ? slot : NULL;
}

static inline bool mux_slot_is_dead(const mux_slot *slot)
{
    return slot->state == MUX_LOST || slot->state == MUX_FREE;
}

/* Whether nothing of a connection is Python's or a verb's any more. */
static inline bool mux_slot_over(const mux_slot *slot)
{
    return slot->state == MUX_FREE || slot->state >= MUX_LINGERING;
}

static inline uint64_t mux_slot_id(const mux_slot *slot)
{
    return (uint64_t)slot->generation << 32 | slot->index;
}

#endif
