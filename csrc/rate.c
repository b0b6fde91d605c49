#include "rate.h"

#include <errno.h>
#include <string.h>

#include "syscalls.h"

#define NONE UINT32_MAX
#define FIRST_ROOM 64     /* buckets, and slots, of the first allocation; twice as many each time */
#define PAGE 4096.0       /* bytes; below that a receive is hardly worth its call */
#define LONGEST INT64_MAX / 4 /* ns; a wait that no clock lives to see */

typedef struct bucket {
    double per_ns, burst, quantum; /* bytes */
    double level;                  /* bytes that may be received at `at` */
    double promised;               /* of these: to those who have their turn, until the clock moves on */
    int64_t at, due;               /* ns; `due` of one in the heap */
    uint32_t users;                /* connections, and Python; 0: it is free */
    uint32_t waiting, first, last; /* slots; `first` of a free one: the next free one */
    uint32_t place;                /* in the heap */
} bucket;

typedef struct limited {
    uint32_t buckets[MUX_RATES_MOST];
    uint32_t next, prev; /* in the queue of the bucket that it waits for */
    uint32_t share;      /* the most that its turn is for; 0: all that there is */
    uint8_t count;
    uint8_t turns;  /* a bit for each bucket in which it has its turn */
    uint8_t waits;  /* 1 + which bucket it waits for; 0: for none */
} limited;

struct mux_rates {
    bucket *buckets;
    uint32_t *heap; /* buckets that somebody waits for, the next due first; as much room as `buckets` */
    limited *slots;
    uint32_t room, used, free, waited; /* buckets: allocated, used at least once, the first free, in the heap */
    uint32_t slot_room;
};

/* -- its life */

mux_rates *mux_rates_open(void)
{
    mux_rates *rates = mux_sys_allocate(1, sizeof *rates);
    if (rates)
        rates->free = NONE;
    return rates;
}

void mux_rates_close(mux_rates *rates)
{
    if (!rates)
        return;
    mux_sys_free(rates->buckets);
    mux_sys_free(rates->heap);
    mux_sys_free(rates->slots);
    mux_sys_free(rates);
}

/* As many more; NULL: no memory, and the old ones stay. */
static void *grown(void *old, uint32_t used, uint32_t room, size_t size)
{
    void *more = mux_sys_allocate(room, size);
    if (!more)
        return NULL;
    if (used)
        memcpy(more, old, used * size);
    mux_sys_free(old);
    return more;
}

/* -- the heap */

static int64_t due_at(const mux_rates *rates, uint32_t place)
{
    return rates->buckets[rates->heap[place]].due;
}

static void put(mux_rates *rates, uint32_t place, uint32_t which)
{
    rates->heap[place] = which;
    rates->buckets[which].place = place;
}

/* Its due has changed, or its place is an empty one. */
static void sift(mux_rates *rates, uint32_t which)
{
    const int64_t due = rates->buckets[which].due;
    uint32_t at = rates->buckets[which].place;
    for (; at && due_at(rates, (at - 1) / 2) > due; at = (at - 1) / 2)
        put(rates, at, rates->heap[(at - 1) / 2]);
    for (uint32_t child; (child = 2 * at + 1) < rates->waited; at = child) {
        if (child + 1 < rates->waited && due_at(rates, child + 1) < due_at(rates, child))
            child++;
        if (due_at(rates, child) >= due)
            break;
        put(rates, at, rates->heap[child]);
    }
    put(rates, at, which);
}

static void leave_heap(mux_rates *rates, uint32_t which)
{
    const uint32_t last = rates->heap[--rates->waited];
    if (last == which)
        return;
    rates->buckets[last].place = rates->buckets[which].place;
    sift(rates, last);
}

/* -- buckets */

static void fill(bucket *it, int64_t now)
{
    if (now <= it->at)
        return;
    it->level += (double)(now - it->at) * it->per_ns;
    if (it->level > it->burst)
        it->level = it->burst;
    it->at = now;
    it->promised = 0;
}

/* When a further turn may be given. */
static int64_t next_turn(const bucket *it)
{
    const double wait = (it->promised + it->quantum - it->level) / it->per_ns;
    return it->at + (wait <= 0 ? 0 : wait < (double)LONGEST ? (int64_t)wait + 1 : LONGEST);
}

static void set(bucket *it, double per_second, double burst)
{
    const double worth = per_second / 1000 > PAGE ? per_second / 1000 : PAGE;
    it->per_ns = per_second / 1e9;
    it->burst = burst;
    it->quantum = burst / 2 < worth ? burst / 2 : worth;
    if (it->quantum < 1)
        it->quantum = 1;
    if (it->level > burst)
        it->level = burst;
}

int64_t mux_rates_add(mux_rates *rates, double per_second, double burst, int64_t now)
{
    uint32_t which = rates->free;
    if (which != NONE) {
        rates->free = rates->buckets[which].first;
    } else {
        if (rates->used == rates->room) {
            const uint32_t room = rates->room ? 2 * rates->room : FIRST_ROOM;
            uint32_t *heap = grown(rates->heap, rates->waited, room, sizeof *heap);
            if (!heap)
                return -ENOMEM;
            rates->heap = heap;
            bucket *buckets = grown(rates->buckets, rates->used, room, sizeof *buckets);
            if (!buckets)
                return -ENOMEM;
            rates->buckets = buckets;
            rates->room = room;
        }
        which = rates->used++;
    }
    bucket *it = &rates->buckets[which];
    *it = (bucket){.level = burst, .at = now, .users = 1, .first = NONE, .last = NONE};
    set(it, per_second, burst);
    return which;
}

bool mux_rates_has(const mux_rates *rates, uint32_t which)
{
    return which < rates->used && rates->buckets[which].users;
}

void mux_rates_change(mux_rates *rates, uint32_t which, double per_second, double burst, int64_t now)
{
    bucket *it = &rates->buckets[which];
    fill(it, now);
    set(it, per_second, burst);
    if (it->waiting) {
        it->due = next_turn(it);
        sift(rates, which);
    }
}

void mux_rates_drop(mux_rates *rates, uint32_t which)
{
    bucket *it = &rates->buckets[which];
    if (--it->users)
        return;
    it->first = rates->free;
    rates->free = which;
}

/* -- who waits */

/* One of those that it was promised to has it, or has found it gone. */
static void keep_promise(bucket *it)
{
    it->promised = it->promised > it->quantum ? it->promised - it->quantum : 0;
}

static void wait_for(mux_rates *rates, uint32_t slot, uint8_t number)
{
    limited *it = &rates->slots[slot];
    bucket *in = &rates->buckets[it->buckets[number]];
    const bool front = it->turns >> number & 1;
    if (front)
        keep_promise(in);
    it->waits = (uint8_t)(number + 1);
    it->next = front ? in->first : NONE;
    it->prev = front ? NONE : in->last;
    if (it->next != NONE)
        rates->slots[it->next].prev = slot;
    else
        in->last = slot;
    if (it->prev != NONE)
        rates->slots[it->prev].next = slot;
    else
        in->first = slot;
    if (in->waiting++)
        return;
    in->due = next_turn(in);
    in->place = rates->waited++;
    sift(rates, it->buckets[number]);
}

static void stop_waiting(mux_rates *rates, limited *it)
{
    const uint32_t which = it->buckets[it->waits - 1];
    bucket *in = &rates->buckets[which];
    it->waits = 0;
    if (it->next != NONE)
        rates->slots[it->next].prev = it->prev;
    else
        in->last = it->prev;
    if (it->prev != NONE)
        rates->slots[it->prev].next = it->next;
    else
        in->first = it->next;
    if (!--in->waiting)
        leave_heap(rates, which);
}

/* The first of its buckets that has nothing for it now; `count`: none. */
static uint8_t lacking(mux_rates *rates, const limited *it, int64_t now)
{
    uint8_t i = 0;
    for (; i < it->count; i++) {
        bucket *in = &rates->buckets[it->buckets[i]];
        fill(in, now);
        if (in->level < in->quantum || (in->waiting && !(it->turns >> i & 1)))
            break;
    }
    return i;
}

uint32_t mux_rates_next(mux_rates *rates, int64_t now)
{
    while (rates->waited && due_at(rates, 0) <= now) {
        const uint32_t which = rates->heap[0];
        bucket *in = &rates->buckets[which];
        fill(in, now);
        if (in->level < in->promised + in->quantum) { /* others have used it */
            in->due = next_turn(in);
            sift(rates, which);
            continue;
        }
        const uint32_t slot = in->first;
        limited *it = &rates->slots[slot];
        const bool alone = in->waiting == 1 && in->promised == 0;
        it->turns |= (uint8_t)(1U << (it->waits - 1));
        if (!alone && (!it->share || in->quantum < it->share))
            it->share = (uint32_t)(in->quantum < UINT32_MAX ? in->quantum : UINT32_MAX);
        stop_waiting(rates, it);
        const uint8_t other = lacking(rates, it, now);
        if (other < it->count)
            wait_for(rates, slot, other);
        else
            in->promised += in->quantum;
        if (in->waiting) {
            in->due = next_turn(in);
            sift(rates, which);
        }
        if (other == it->count)
            return slot;
    }
    return NONE;
}

int64_t mux_rates_due(const mux_rates *rates)
{
    return rates->waited ? due_at(rates, 0) : INT64_MAX;
}

/* -- who counts */

bool mux_rates_limits(const mux_rates *rates, uint32_t slot)
{
    return slot < rates->slot_room && rates->slots[slot].count;
}

void mux_rates_forget(mux_rates *rates, uint32_t slot)
{
    if (!mux_rates_limits(rates, slot))
        return;
    limited *it = &rates->slots[slot];
    if (it->waits)
        stop_waiting(rates, it);
    for (uint8_t i = 0; i < it->count; i++)
        mux_rates_drop(rates, it->buckets[i]);
    *it = (limited){0};
}

int mux_rates_limit(mux_rates *rates, uint32_t slot, const uint32_t *which, uint32_t count)
{
    if (slot >= rates->slot_room) {
        uint32_t room = rates->slot_room ? rates->slot_room : FIRST_ROOM;
        while (room <= slot)
            room *= 2;
        limited *slots = grown(rates->slots, rates->slot_room, room, sizeof *slots);
        if (!slots)
            return -ENOMEM;
        rates->slots = slots;
        rates->slot_room = room;
    }
    for (uint32_t i = 0; i < count; i++)
        rates->buckets[which[i]].users++; /* first: it may be the last user of one that it keeps */
    mux_rates_forget(rates, slot);
    limited *it = &rates->slots[slot];
    for (uint32_t i = 0; i < count; i++)
        it->buckets[i] = which[i];
    it->count = (uint8_t)count;
    return 0;
}

size_t mux_rates_room(mux_rates *rates, uint32_t slot, size_t size, int64_t now)
{
    if (!mux_rates_limits(rates, slot))
        return size;
    limited *it = &rates->slots[slot];
    if (it->waits)
        return 0;
    const uint8_t which = lacking(rates, it, now);
    if (which < it->count) {
        wait_for(rates, slot, which);
        return 0;
    }
    if (it->share && it->share < size)
        size = it->share;
    for (uint8_t i = 0; i < it->count; i++)
        if (rates->buckets[it->buckets[i]].level < (double)size)
            size = (size_t)rates->buckets[it->buckets[i]].level;
    return size;
}

void mux_rates_spend(mux_rates *rates, uint32_t slot, size_t size)
{
    if (!mux_rates_limits(rates, slot))
        return;
    limited *it = &rates->slots[slot];
    for (uint8_t i = 0; i < it->count; i++) {
        bucket *in = &rates->buckets[it->buckets[i]];
        in->level -= (double)size;
        if (it->turns >> i & 1)
            keep_promise(in);
        if (in->waiting) {
            in->due = next_turn(in);
            sift(rates, it->buckets[i]);
        }
    }
    it->turns = 0;
    it->share = 0;
}
