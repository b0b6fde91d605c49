/* simulate [--seeds A..B] [--seed N] [--trace] [--shrink N] [--jobs N] [--plain] [--most N]
 *
 *   --seeds A..B  run these; every one that fails is told, and the status is 1
 *   --seed N      that one
 *   --trace       and what happens in it, call by call
 *   --shrink N    print a short script that fails as seed N does, and what happens in it
 *   --jobs N      in so many processes; 1
 *   --seconds N   stop after so long, whatever seed it is at
 *   --plain       scripts without faults, which are run on a real kernel too; print what comes out of each
 *   --calls       no core: what single calls of the kernel say; print it
 *   --most N      stop after so many failures; 1
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, setitimer */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "fail.h"
#include "model.h"
#include "script.h"
#include "script_ops.h"
#include "shrink.h"

#define JOBS_MOST 64
#define SEED_SECONDS 20 /* of the processor's time, for one seed: a run takes about a millisecond */

static struct {
    uint64_t from, to, shrink;
    int jobs, most;
    double seconds;
    bool plain, calls;
} asked = {.from = 1, .to = 1000, .jobs = 1, .most = 1};

struct progress { /* of one process, shared with the one that waits for it */
    uint64_t seed, failed;
    script_totals done;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void draw(script *to, uint64_t seed)
{
    rng mixed = {seed};
    /* mixed: else each seed's numbers were those of the one before, shifted */
    script_source source = {.seed = {rng_next(&mixed)}};
    (asked.plain ? script_draw_plain : script_draw)(to, &source);
}

static void watch_over(void) /* a seed that does not come back is a failure too: SIGVTALRM ends the process */
{
    struct itimerval limit = {.it_value = {.tv_sec = SEED_SECONDS}};
    setitimer(ITIMER_VIRTUAL, &limit, NULL);
}

static void run_some(uint64_t first, uint64_t step, struct progress *progress)
{
    static script now;
    double until = asked.seconds ? now_s() + asked.seconds : 0;
    for (uint64_t seed = first; seed <= asked.to && progress->failed < (uint64_t)asked.most; seed += step) {
        progress->seed = seed;
        if (!(seed / step & 255)) {
            watch_over();
            if (until && now_s() > until)
                break;
        }
        if (asked.calls) {
            printf("seed %llu\n", (unsigned long long)seed);
            calls_run(seed);
            continue;
        }
        draw(&now, seed);
        if (asked.plain)
            printf("seed %llu\n", (unsigned long long)seed);
        const char *broken = script_run(&now);
        if (asked.plain) {
            static char report[CONNS * 100];
            final_report(report, sizeof report);
            fputs(report, stdout);
        }
        progress->done = script_done;
        if (broken) {
            progress->failed++;
            printf("seed %llu: %s: %s\n", (unsigned long long)seed, broken, fail_detail);
            fflush(stdout);
        }
    }
    progress->seed = 0;
}

static int run_all(void)
{
    struct progress *all = mmap(NULL, sizeof *all * JOBS_MOST, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return 2;
    double begun = now_s();
    fflush(stdout);
    for (int i = 0; i < asked.jobs; i++)
        if (!fork()) {
            watch_over();
            run_some(asked.from + (uint64_t)i, (uint64_t)asked.jobs, &all[i]);
            exit(0);
        }
    script_totals sum = {0};
    uint64_t failed = 0;
    for (int i = 0; i < asked.jobs; i++) {
        int status;
        if (wait(&status) > 0 && status)
            failed++;
    }
    for (int i = 0; i < asked.jobs; i++) {
        if (all[i].seed)
            printf("seed %llu: crash: the process ended, or had to be ended\n",
                   (unsigned long long)all[i].seed);
        failed += all[i].failed;
        sum.runs += all[i].done.runs;
        sum.ops += all[i].done.ops;
        sum.turns += all[i].done.turns;
    }
    double took = now_s() - begun;
    fprintf(stderr, "%llu seeds, %llu operations, %llu turns in %.1f s: %.0f seeds/s; %llu failed\n",
            (unsigned long long)sum.runs, (unsigned long long)sum.ops, (unsigned long long)sum.turns, took,
            (double)sum.runs / took, (unsigned long long)failed);
    if (failed)
        fprintf(stderr, "replay with --seed N --trace, shrink with --shrink N\n");
    return failed ? 1 : 0;
}

static int run_shrink(void)
{
    static script now;
    char name[sizeof fail_name];
    draw(&now, asked.shrink);
    shrink_try(&now, name, sizeof name);
    if (!*name) {
        printf("seed %llu: all is well\n", (unsigned long long)asked.shrink);
        return 0;
    }
    int before = now.count;
    shrink(&now, name);
    printf("seed %llu: %s, with %d of %d operations\n", (unsigned long long)asked.shrink, name,
           now.count, before);
    script_print(&now);
    fflush(stdout);
    if (script_run(&now))
        printf("%s: %s\n", fail_name, fail_detail);
    return 1;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        const char *what = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        char *rest = NULL;
        if (!strcmp(what, "--trace")) {
            tracing = 1;
            continue;
        }
        if (!strcmp(what, "--calls")) {
            asked.calls = true;
            continue;
        }
        if (!strcmp(what, "--plain")) {
            asked.plain = true;
            continue;
        }
        uint64_t number = strtoull(value, &rest, 0);
        if (!strcmp(what, "--seeds") && !strncmp(rest, "..", 2)) {
            asked.from = number;
            asked.to = strtoull(rest + 2, NULL, 0);
        } else if (!strcmp(what, "--seed")) {
            asked.from = asked.to = number;
        } else if (!strcmp(what, "--shrink")) {
            asked.shrink = number;
        } else if (!strcmp(what, "--most")) {
            asked.most = (int)number;
        } else if (!strcmp(what, "--seconds")) {
            asked.seconds = (double)number;
        } else if (!strcmp(what, "--jobs") && number >= 1 && number <= JOBS_MOST) {
            asked.jobs = (int)number;
        } else {
            fprintf(stderr, "%s %s is not known; see main.c\n", what, value);
            return 2;
        }
        i++;
    }
    if (asked.shrink)
        return run_shrink();
    if (tracing) {
        static script now;
        draw(&now, asked.from);
        script_print(&now);
    }
    return run_all();
}
