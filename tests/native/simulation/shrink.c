/* From a script that fails to a short one that fails in the same way: take away what is not needed. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fail.h"
#include "shrink.h"

/* In a child: a script may crash, or never come back. */
void shrink_try(const script *what, char *name, size_t size)
{
    int ends[2], status;
    name[0] = 0;
    fflush(NULL);
    if (pipe(ends))
        return;
    pid_t child = fork();
    if (!child) {
        alarm(SHRINK_SECONDS);
        if (!freopen("/dev/null", "w", stderr)) /* a sanitizer's report, once for each try */
            _exit(3);
        const char *broken = script_run(what);
        if (broken && write(ends[1], broken, strlen(broken)) < 0)
            _exit(3);
        _exit(0);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], name, size - 1);
    name[got > 0 ? got : 0] = 0;
    close(ends[0]);
    if (child > 0 && waitpid(child, &status, 0) == child && got <= 0 && status)
        snprintf(name, size, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hang" : "crash");
}

static bool fails(const script *what, const char *name)
{
    char now[sizeof fail_name];
    shrink_try(what, now, sizeof now);
    return !strcmp(now, name);
}

static bool take_out(script *what, const char *name, int from, int count)
{
    script less = *what;
    memmove(less.ops + from, less.ops + from + count,
            (size_t)(less.count - from - count) * sizeof *less.ops);
    less.count -= count;
    if (!fails(&less, name))
        return false;
    *what = less;
    return true;
}

static bool fewer_ops(script *what, const char *name)
{
    bool any = false;
    for (int count = what->count / 2; count; count /= 2)
        for (int from = what->count - count; from >= 0; from -= count)
            if (from + count <= what->count && take_out(what, name, from, count))
                any = true;
    return any;
}

static bool keep_if(script *what, const script *less, const char *name)
{
    if (!memcmp(what, less, sizeof *less) || !fails(less, name))
        return false;
    *what = *less;
    return true;
}

static bool simpler(script *what, const char *name)
{
    bool any = false;
    script less;
#define TRY(change)                                                                                \
    do {                                                                                           \
        less = *what;                                                                              \
        change;                                                                                    \
        any = keep_if(what, &less, name) || any;                                                   \
    } while (0)
    for (uint32_t fault = 1; fault <= WORLD_FAULTS; fault <<= 1)
        TRY(less.world.faults &= ~fault);
    TRY(less.reacts = false);
    TRY(less.idle_ms = 0);
    TRY(less.half_close_ms = 0);
    TRY(less.close_ms = 0);
    TRY(less.linger_ms = 100);
    TRY(less.edge = 0);
    TRY(less.connections = 100);
    TRY((less.high = 2000, less.low = 500));
    TRY(less.read_chunk = 2000);
    TRY((less.world.send_room = 2000, less.world.receive_room = 2000));
    TRY((less.reads = 4, less.accepts = 4));
    TRY(less.end = 2);
    TRY(less.pause_ms = 1);
    for (int i = 0; i < what->count; i++) {
        TRY(less.ops[i].noise = 0);
        TRY(less.ops[i].a = 0);
        TRY(less.ops[i].a %= 16);
        TRY(less.ops[i].b = 0);
        TRY(less.ops[i].b %= 16);
        TRY(less.ops[i].b = 99);
    }
#undef TRY
    return any;
}

void shrink(script *what, const char *name)
{
    for (int i = 0; i < SHRINK_ROUNDS && (fewer_ops(what, name) | simpler(what, name)); i++)
        continue;
}
