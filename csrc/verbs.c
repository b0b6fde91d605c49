#include "verb.h"

const mux_verb_ops *const mux_verbs[MUX_VERBS] = {
    [MUX_VERB_NONE] = &mux_verb_python,
    [MUX_VERB_ECHO] = &mux_verb_echo,
    [MUX_VERB_DISCARD] = &mux_verb_discard,
    [MUX_VERB_RELAY] = &mux_verb_relay,
};
