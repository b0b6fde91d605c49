/* A run that breaks an invariant ends there: the invariant's name, and what was seen. */
#ifndef FAIL_H
#define FAIL_H

#include <setjmp.h>

extern jmp_buf fail_run;       /* where a run goes that has failed */
extern char fail_name[40];     /* of the invariant */
extern char fail_detail[400];

_Noreturn void fail(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What --trace prints; nothing otherwise. */
extern int tracing;
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define TRACE(...)                                                                                 \
    do {                                                                                           \
        if (__builtin_expect(tracing, 0))                                                          \
            trace(__VA_ARGS__);                                                                    \
    } while (0)

#endif
