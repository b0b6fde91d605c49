/* Rates: connections begin and cease to count against them, at any moment, and no time brings too many bytes. */
#include <errno.h>

#include "fail.h"
#include "model.h"

static const double per_second[RATES] = {2e4, 1e5, 1e6}, burst[RATES] = {300, 2000, 10000};

static bool makes(int which) /* it, where it is not there yet; false: there is no memory */
{
    if (model.rates[which].made)
        return true;
    int64_t number = mux_rate_new(model.loop, per_second[which], burst[which]);
    if (number < 0 && !world_lost_to_faults())
        fail("refused", "mux_rate_new says %lld", (long long)number);
    model.rates[which].made = number >= 0;
    model.rates[which].number = (uint32_t)number;
    model.rates[which].since = world_now();
    return number >= 0;
}

/* What it has received while it counts, and while what comes is not just dropped. */
static uint64_t received(const conn *of)
{
    const uint64_t all = world_received(of->file);
    return (all < of->closed_at ? all : of->closed_at) - of->rated_from;
}

void side_limit(conn *of, uint32_t dice)
{
    uint32_t numbers[RATES], count = 0;
    uint8_t rated = (uint8_t)(dice % (1U << RATES));
    side_flush();
    if (!side_alive(of))
        return;
    for (int i = 0; i < RATES; i++)
        if (rated >> i & 1) {
            if (!makes(i))
                return;
            numbers[count++] = model.rates[i].number;
        }
    int result = mux_limit(model.loop, of->slot, of->generation, numbers, count);
    TRACE("  limit of connection %d: %#x, %d", conn_index(of), rated, result);
    if (result && !(result == -ENOMEM && world_lost_to_faults()))
        fail("refused", "limit of connection %d says %d", conn_index(of), result);
    if (result)
        return;
    for (int i = 0; i < RATES; i++)
        if (of->rated >> i & 1)
            model.rates[i].received += received(of);
    of->rated = rated;
    of->rated_from = world_received(of->file);
}

void side_rates_check(void)
{
    for (int i = 0; i < RATES && !model.ending && world_simulated; i++) {
        uint64_t size = model.rates[i].received;
        if (!model.rates[i].made)
            continue;
        for (int j = 0; j < model.conn_count; j++)
            if (conn_at(j)->rated >> i & 1)
                size += received(conn_at(j));
        double may = per_second[i] * (double)(world_now() - model.rates[i].since) / 1e9 + burst[i];
        if ((double)size > may)
            fail("rate", "%llu bytes came at rate %d, which allows %.0f", (unsigned long long)size, i, may);
    }
}

/* Let all go on: a change has to reach those who wait. */
void side_rates_end(void)
{
    for (int i = 0; i < RATES; i++) {
        int result = model.rates[i].made ? mux_rate_change(model.loop, model.rates[i].number, 1e12, 1e12) : 0;
        if (!result && model.rates[i].made)
            result = mux_rate_drop(model.loop, model.rates[i].number);
        if (result)
            fail("refused", "a rate that was made says %d", result);
    }
}
