/* A target for libFuzzer: its bytes are where the numbers of a script come from. */
#include <stdio.h>
#include <stdlib.h>

#include "fail.h"
#include "script.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size); /* libFuzzer's name for it */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static script now;
    script_source source = {.bytes = bytes, .size = size};
    script_draw(&now, &source);
    const char *broken = script_run(&now);
    if (broken) {
        script_print(&now);
        printf("%s: %s\n", broken, fail_detail);
        fflush(stdout);
        abort();
    }
    return 0;
}
