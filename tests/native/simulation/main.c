#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "script.h"
#include "script_ops.h"

uint32_t known;

int main(int argc, char **argv)
{
    uint64_t from = 1, to = 1000;
    if (argc > 1)
        sscanf(argv[1], "%lu..%lu", &from, &to);
    tracing = argc > 2 && !strcmp(argv[2], "--trace");
    if (argc > 2 && !tracing)
        known = (uint32_t)atoi(argv[2]);
    static script now;
    int bad = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        script_source source = {.seed = {seed * 0x9E3779B97F4A7C15u}};
        script_draw(&now, &source);
        if (tracing)
            script_print(&now);
        const char *broken = script_run(&now);
        if (broken) {
            printf("seed %lu: %s: %s\n", seed, broken, fail_detail);
            fflush(stdout);
            if (++bad > 30) break;
        }
    }
    printf("%lu runs %lu ops %lu turns\n", script_done.runs, script_done.ops, script_done.turns);
    return bad != 0;
}
