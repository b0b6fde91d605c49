/* What a load is made of, and how it ends: its memory, its bytes, where it goes. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include "load_internal.h"
#include "syscalls.h"

static int set_address(mux_load *load)
{
    if (load->config.port < 0) {
        struct sockaddr_un *address = (struct sockaddr_un *)&load->address;
        size_t size = strlen(load->config.host);
        if (size >= sizeof address->sun_path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        address->sun_family = AF_UNIX;
        memcpy(address->sun_path, load->config.host, size + 1);
        load->address_len = sizeof *address;
        return 0;
    }
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    snprintf(port, sizeof port, "%d", load->config.port);
    if (getaddrinfo(load->config.host, port, &hints, &found) != 0) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&load->address, found->ai_addr, found->ai_addrlen);
    load->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* Copy `period` bytes, or invent them where there are none, and repeat them. */
static int make_pattern(mux_pattern *pattern, const unsigned char *from, uint32_t period,
                        uint64_t *state)
{
    pattern->period = period;
    pattern->bytes = mux_sys_allocate(1, (size_t)period + MUX_IO_MAX);
    if (!pattern->bytes)
        return -1;
    for (size_t i = 0; i < period; i++)
        pattern->bytes[i] = from ? from[i] : (unsigned char)(mux_random(state) >> 56);
    for (size_t i = period; i < (size_t)period + MUX_IO_MAX; i++)
        pattern->bytes[i] = pattern->bytes[i - period];
    return 0;
}

static int make_patterns(mux_load *load)
{
    mux_load_config *config = &load->config;
    uint64_t state = config->seed | 1, same = state;
    const unsigned char *request = config->request_len ? config->request : NULL;
    const unsigned char *reply = config->reply_len ? config->reply : NULL;
    uint32_t sent = request ? (uint32_t)config->request_len : MUX_PATTERN_PERIOD;
    uint32_t back = reply ? (uint32_t)config->reply_len : MUX_PATTERN_PERIOD;
    if (make_pattern(&load->sent, request, sent, &state) < 0 ||
        make_pattern(&load->expected, reply, back, &same) < 0)
        return -1;
    config->request = config->reply = NULL; /* the caller's memory */
    return 0;
}

static int make_rules(mux_load *load)
{
    mux_load_config *config = &load->config;
    load->framed = config->http || config->until_len;
    load->rules.no_body = config->http == MUX_LOAD_HTTP_HEAD;
    if (config->until_len)
        mux_reply_until(&load->rules, config->until, (size_t)config->until_len);
    if (config->greeting_len)
        mux_reply_until(&load->greeting, config->greeting, (size_t)config->greeting_len);
    config->until = config->greeting = NULL; /* the caller's memory */
    if (load->framed || config->greeting_len)
        load->replies = mux_sys_allocate(load->count, sizeof *load->replies);
    return load->replies || (!load->framed && !config->greeting_len) ? 0 : -1;
}

static void fill(mux_load *load)
{
    uint64_t state = load->config.seed | 1;
    for (uint32_t i = 0; i < load->count; i++) {
        mux_load_conn *conn = &load->conns[i];
        conn->index = i;
        conn->fd = conn->place = -1;
        conn->random = mux_random(&state) | 1;
    }
}

mux_load *mux_load_new(const mux_load_config *config, const char **failed_call)
{
    mux_load *load = mux_sys_allocate(1, sizeof *load);
    *failed_call = "calloc";
    if (!load)
        return NULL;
    load->epoll = -1;
    load->config = *config;
    load->count = (uint32_t)config->connections + (uint32_t)config->idle;
    if (config->workload == MUX_LOAD_CHURN)
        load->next_connect = (uint32_t)config->connections;
    *failed_call = "address";
    if (set_address(load) < 0)
        goto fail;
    load->config.host = NULL; /* the caller's memory */
    *failed_call = "calloc";
    load->conns = mux_sys_allocate(load->count, sizeof *load->conns);
    load->flights = mux_sys_allocate((size_t)config->connections * (size_t)config->depth, sizeof *load->flights);
    load->heap = mux_sys_allocate((size_t)config->connections, sizeof *load->heap);
    load->inbox = mux_sys_allocate(1, MUX_IO_MAX);
    if (!load->conns || !load->flights || !load->heap || !load->inbox || make_patterns(load) < 0 ||
        make_rules(load) < 0)
        goto fail;
    fill(load);
    *failed_call = "epoll_create1";
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0)
        goto fail;
    *failed_call = NULL;
    return load;
fail:
    {
        int error = errno;
        mux_load_free(load);
        errno = error;
    }
    return NULL;
}

void mux_load_free(mux_load *load)
{
    if (!load)
        return;
    for (uint32_t i = 0; load->conns && i < load->count; i++)
        if (load->conns[i].fd >= 0)
            close(load->conns[i].fd);
    if (load->epoll >= 0)
        close(load->epoll);
    mux_sys_free(load->conns);
    mux_sys_free(load->flights);
    mux_sys_free(load->heap);
    mux_sys_free(load->sent.bytes);
    mux_sys_free(load->expected.bytes);
    mux_sys_free(load->inbox);
    mux_sys_free(load->replies);
    mux_sys_free(load);
}
