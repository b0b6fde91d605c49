/* Where a reply ends whose bytes are not known: after a text, or as HTTP/1 says (RFC 9112, section 6.3).
 *
 * Invariants:
 *   - bytes are taken in the order in which they came, in pieces of any size, and never one that is
 *     beyond the reply;
 *   - a state of zeros is the beginning of a reply;
 *   - what muxcore/load/replies.py says of the same bytes, is said here.
 */
#ifndef MUX_LOAD_REPLY_H
#define MUX_LOAD_REPLY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUX_REPLY_UNTIL_MAX 256 /* bytes of the text that ends a reply: a line's end, a prompt */
#define MUX_REPLY_LINE 128      /* bytes of a line that are looked at: those that matter are shorter */

typedef struct {
    unsigned char until[MUX_REPLY_UNTIL_MAX];
    uint16_t until_len;                    /* 0: the replies are HTTP's */
    uint16_t retry[MUX_REPLY_UNTIL_MAX];   /* how much of `until` still matches where the next byte does not */
    int no_body;                           /* to HEAD: a length is told, and nothing of it comes */
} mux_reply_rules;

typedef enum {
    MUX_REPLY_MORE,
    MUX_REPLY_WHOLE,
    MUX_REPLY_REFUSAL, /* whole, with a status of 400 or more */
    MUX_REPLY_WRONG    /* it is none */
} mux_reply_verdict;

typedef struct {
    uint64_t left;         /* bytes of the body, or of the chunk */
    uint16_t matched;      /* of `until` */
    uint16_t line_len;
    uint16_t status;
    uint8_t state;
    uint8_t has_length, chunked, keeps, closes; /* `closes`: the server ends the connection after it */
    char line[MUX_REPLY_LINE];
} mux_reply;

void mux_reply_until(mux_reply_rules *rules, const unsigned char *text, size_t size);

/* Returns how many bytes of `data` belong to the reply. */
size_t mux_reply_take(const mux_reply_rules *rules, mux_reply *reply, const unsigned char *data,
                      size_t size, mux_reply_verdict *verdict);

/* What the end of the stream makes of a reply: WHOLE or REFUSAL where it lasts that long, else WRONG. */
mux_reply_verdict mux_reply_at_end(const mux_reply *reply);

static inline void mux_reply_reset(mux_reply *reply)
{
    memset(reply, 0, offsetof(mux_reply, line));
}

static inline int mux_reply_has_begun(const mux_reply *reply)
{
    return reply->state || reply->line_len || reply->matched || reply->left;
}

#endif
