/* A test program: functions whose names are sentences, run one by one by the name given, or all of them.
 *
 *   TEST(a_slot_never_moves) { CHECK(2 + 2 == 4); }
 *
 * A failed CHECK prints where and what, and ends the program with status 1.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TESTS_MOST 64

static struct {
    const char *name;
    void (*run)(void);
} tests_known[TESTS_MOST];
static int tests_count;

#define TEST(sentence)                                                                             \
    static void sentence(void);                                                                    \
    __attribute__((constructor)) static void sentence##_is_known(void)                             \
    {                                                                                              \
        tests_known[tests_count].name = #sentence;                                                 \
        tests_known[tests_count++].run = sentence;                                                 \
    }                                                                                              \
    static void sentence(void)

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_EQUAL(got, wanted)                                                                   \
    do {                                                                                           \
        long long is = (long long)(got), should = (long long)(wanted);                             \
        if (is != should) {                                                                        \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, is, should);\
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

int main(int argc, char **argv)
{
    int ran = 0;
    for (int i = 0; i < tests_count; i++)
        if (argc < 2 || !strcmp(argv[1], tests_known[i].name)) {
            tests_known[i].run();
            ran++;
        }
    if (!ran)
        fprintf(stderr, "no test %s\n", argc < 2 ? "at all" : argv[1]);
    return ran ? 0 : 2;
}

#endif
