/* Where a reply ends: see load_reply.h. */
#include "load_reply.h"

#include <string.h>
#include <strings.h>

enum { STATUS, HEADER, CHUNK_SIZE, CHUNK_END, TRAILER, BODY, CHUNK, TO_THE_END };

void mux_reply_until(mux_reply_rules *rules, const unsigned char *text, size_t size)
{
    rules->until_len = (uint16_t)size;
    memcpy(rules->until, text, size);
    /* Knuth, Morris and Pratt, "Fast pattern matching in strings" (1977). */
    uint16_t matched = 0;
    rules->retry[0] = 0;
    for (size_t i = 1; i < size; i++) {
        while (matched && text[i] != text[matched])
            matched = rules->retry[matched - 1];
        matched = (uint16_t)(matched + (text[i] == text[matched]));
        rules->retry[i] = matched;
    }
}

static size_t take_until(const mux_reply_rules *rules, mux_reply *reply, const unsigned char *data,
                         size_t size, mux_reply_verdict *verdict)
{
    uint16_t matched = reply->matched;
    size_t at = 0;
    while (at < size && matched < rules->until_len) {
        unsigned char next = data[at++];
        while (matched && next != rules->until[matched])
            matched = rules->retry[matched - 1];
        matched = (uint16_t)(matched + (next == rules->until[matched]));
    }
    reply->matched = matched;
    reply->left += at; /* nothing else counts them: it has begun */
    *verdict = matched == rules->until_len ? MUX_REPLY_WHOLE : MUX_REPLY_MORE;
    return at;
}

static mux_reply_verdict whole(const mux_reply *reply)
{
    return reply->status >= 400 ? MUX_REPLY_REFUSAL : MUX_REPLY_WHOLE;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK"; what comes of it so far, where the line is not whole. */
static mux_reply_verdict status_line(mux_reply *reply, int is_line)
{
    static const char form[] = "HTTP/1.d ddd";
    size_t size = sizeof form - 1, seen = reply->line_len < size ? reply->line_len : size;
    for (size_t i = 0; i < seen; i++)
        if (form[i] == 'd' ? !is_digit(reply->line[i]) : reply->line[i] != form[i])
            return MUX_REPLY_WRONG;
    if (!is_line)
        return MUX_REPLY_MORE;
    if (seen < size)
        return MUX_REPLY_WRONG;
    reply->status = 0;
    for (size_t i = size - 3; i < size; i++)
        reply->status = (uint16_t)(reply->status * 10 + (reply->line[i] - '0'));
    reply->closes = reply->line[7] == '0';
    reply->state = HEADER;
    return reply->status == 101 ? MUX_REPLY_WRONG : MUX_REPLY_MORE; /* another protocol from here on */
}

/* A header's value, or NULL where the line is not of that name; the name ends with its colon. */
static const char *value_of(const char *line, const char *name)
{
    size_t size = strlen(name);
    if (strncasecmp(line, name, size) != 0)
        return NULL;
    return line + size + strspn(line + size, " \t");
}

static int contains(const char *text, const char *word)
{
    size_t size = strlen(word);
    for (; *text; text++)
        if (strncasecmp(text, word, size) == 0)
            return 1;
    return 0;
}

static unsigned digit_of(char c)
{
    if (is_digit(c))
        return (unsigned)(c - '0');
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

/* Read a number; returns 0 where there is none, or one of 2^56 and more. After a chunk's may stand more. */
static int number(const char *text, unsigned base, uint64_t *found)
{
    const char *begin = text;
    for (*found = 0; digit_of(*text) < base && *found < UINT64_C(1) << 52; text++)
        *found = *found * base + digit_of(*text);
    const char *rest = text + strspn(text, " \t");
    return text > begin && (!*rest || (base == 16 && *rest == ';'));
}

static mux_reply_verdict header(mux_reply *reply)
{
    const char *value;
    if ((value = value_of(reply->line, "content-length:")) != NULL) {
        if (!number(value, 10, &reply->left))
            return MUX_REPLY_WRONG;
        reply->has_length = 1;
    } else if ((value = value_of(reply->line, "transfer-encoding:")) != NULL) {
        reply->chunked |= (uint8_t)contains(value, "chunked");
    } else if ((value = value_of(reply->line, "connection:")) != NULL) {
        if (contains(value, "close"))
            reply->closes = 1;
        else if (contains(value, "keep-alive"))
            reply->closes = 0;
    }
    return MUX_REPLY_MORE;
}

static mux_reply_verdict end_of_head(const mux_reply_rules *rules, mux_reply *reply)
{
    if (reply->status < 200) { /* an interim response: the one that is meant follows */
        memset(reply, 0, sizeof *reply);
        return MUX_REPLY_MORE;
    }
    if (rules->no_body || reply->status == 204 || reply->status == 304)
        return whole(reply);
    if (reply->chunked) {
        reply->state = CHUNK_SIZE;
    } else if (reply->has_length) {
        if (!reply->left)
            return whole(reply);
        reply->state = BODY;
    } else {
        reply->state = TO_THE_END;
        reply->closes = 1;
    }
    return MUX_REPLY_MORE;
}

static mux_reply_verdict line(const mux_reply_rules *rules, mux_reply *reply)
{
    switch (reply->state) {
    case STATUS:
        return status_line(reply, 1);
    case HEADER:
        return reply->line_len ? header(reply) : end_of_head(rules, reply);
    case CHUNK_SIZE:
        if (!number(reply->line, 16, &reply->left))
            return MUX_REPLY_WRONG;
        reply->state = reply->left ? CHUNK : TRAILER;
        return MUX_REPLY_MORE;
    case CHUNK_END:
        reply->state = CHUNK_SIZE;
        return reply->line_len ? MUX_REPLY_WRONG : MUX_REPLY_MORE;
    default:
        return reply->line_len ? MUX_REPLY_MORE : whole(reply);
    }
}

/* Take what there is of a line; of a long one only the beginning is kept. */
static size_t take_line(const mux_reply_rules *rules, mux_reply *reply, const unsigned char *data,
                        size_t size, mux_reply_verdict *verdict)
{
    const unsigned char *end = memchr(data, '\n', size);
    size_t taken = end ? (size_t)(end - data) + 1 : size;
    size_t text = end ? taken - 1 : taken, room = MUX_REPLY_LINE - 1u - reply->line_len;
    memcpy(reply->line + reply->line_len, data, text < room ? text : room);
    reply->line_len = (uint16_t)(reply->line_len + (text < room ? text : room));
    if (!end) {
        *verdict = reply->state == STATUS ? status_line(reply, 0) : MUX_REPLY_MORE;
        return taken;
    }
    if (reply->line_len && reply->line[reply->line_len - 1] == '\r')
        reply->line_len--;
    reply->line[reply->line_len] = 0;
    *verdict = line(rules, reply);
    reply->line_len = 0;
    return taken;
}

size_t mux_reply_take(const mux_reply_rules *rules, mux_reply *reply, const unsigned char *data,
                      size_t size, mux_reply_verdict *verdict)
{
    *verdict = MUX_REPLY_MORE;
    if (rules->until_len)
        return take_until(rules, reply, data, size, verdict);
    size_t at = 0;
    while (at < size && *verdict == MUX_REPLY_MORE) {
        if (reply->state < BODY) {
            at += take_line(rules, reply, data + at, size - at, verdict);
            continue;
        }
        if (reply->state == TO_THE_END)
            return size;
        size_t part = size - at < reply->left ? size - at : (size_t)reply->left;
        at += part;
        reply->left -= part;
        if (reply->left)
            continue;
        if (reply->state == CHUNK)
            reply->state = CHUNK_END;
        else
            *verdict = whole(reply);
    }
    return at;
}

mux_reply_verdict mux_reply_at_end(const mux_reply *reply)
{
    return reply->state == TO_THE_END ? whole(reply) : MUX_REPLY_WRONG;
}
