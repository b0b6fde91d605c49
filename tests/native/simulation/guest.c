/* The Python side as a guest of another loop, which watches a descriptor and keeps a time: it polls when one
 * of them says so, and without waiting. What the core forgets to say, nobody does. */
#include "fail.h"
#include "model.h"

#define MS INT64_C(1000000)

/* What the host asks between two polls: when it is to poll whatever the descriptor says. */
static int64_t due_now(void)
{
    int64_t due = mux_loop_due(model.loop);
    int fd = mux_loop_fd(model.loop);
    if (due < 0 || fd < 0)
        fail("guest", "due says %lld, and the descriptor is %d", (long long)due, fd);
    if (fd != model.watched && model.watched >= 0 && due)
        fail("guest", "the descriptor is %d, was %d, and nothing says so", fd, model.watched);
    if (fd != model.watched)
        world_watch(fd);
    model.watched = fd;
    return due;
}

/* Whether there is nothing to poll for; then time has passed, until `until` or until there may be. */
static bool asleep(int64_t until)
{
    int64_t due = due_now();
    TRACE("  due: %lld us", (long long)(due / 1000));
    return due > world_now() && !world_readable(due < until ? due : until);
}

/* What has been arriving all along, and what was written to the waker, is nothing to sleep over. */
static void check_asleep(int64_t wait)
{
    if (model.woken && wait >= MS)
        fail("wake", "the wake descriptor was written to, and nobody sees it");
    for (int i = 0; i < model.conn_count; i++) {
        const conn *of = conn_at(i);
        if (side_alive(of) && !of->verb && !of->held && !of->rated && world_unread(of->file))
            fail("guest", "connection %d: its bytes wait unread, and the host sleeps", i);
    }
}

bool side_wait(int64_t wait)
{
    if (!model.guest) {
        side_poll(wait);
        return true;
    }
    const int64_t until = wait < 0 ? INT64_MAX : world_now() + wait;
    bool crosses = model.gathered_count && model.gathered_size[0] % 3; /* with a poll; or alone */
    if (!crosses)
        side_flush();
    remote_turn(model.ending || model.plain);
    do {
        const uint64_t events = model.events;
        if (crosses || !asleep(until)) {
            side_poll(0);
            (void)due_now(); /* before any other poll: the descriptor may be closed in that */
            crosses = false;
            if (model.events != events || wait < 0) /* for ever: until it is woken */
                return false;
        } else if (world_now() >= until) {
            check_asleep(wait);
            return true;
        }
    } while (world_now() < until);
    return asleep(world_now());
}
