/* The loop on the scripted backends: what a listener makes of each error of accept(2). */
#include "scripted.h"

static int listener;
static int64_t place; /* its slot */

static void begin_listening(void)
{
    begin(usual());
    listener = script_listener(script);
    place = mux_listen(loop, listener, MUX_VERB_ECHO, 0);
    CHECK(place >= 0);
}

TEST(an_error_of_the_network_is_its_connections_alone)
{
    static const int errors[] = {ECONNABORTED, EPROTO, ENOPROTOOPT, EOPNOTSUPP, EPERM, EHOSTDOWN,
                                 EHOSTUNREACH, ENONET, ENETDOWN, ENETUNREACH, ETIMEDOUT};
    begin_listening();
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        script_refuse(script, listener, errors[i]);
        script_connect(script, listener);
        CHECK_EQUAL(poll_now(), 0);
        CHECK_EQUAL(stats.total, i);
        script_refuse(script, listener, 0);
        CHECK_EQUAL(poll_now(), 0); /* no time has passed: the next was taken without a rest */
        CHECK_EQUAL(stats.total, i + 1);
    }
    CHECK_EQUAL(stats.accept_errors, 0);
    end();
}

TEST(want_of_resources_is_told_once_rests_and_recovers)
{
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        begin_listening();
        script_connect(script, listener);
        script_refuse(script, listener, errors[i]);
        CHECK_EQUAL(poll_now(), 1);
        expect(0, MUX_EV_TROUBLE, errors[i]);
        CHECK_EQUAL(told[0].slot, place);
        CHECK_EQUAL(pass(SECOND), 0);
        int attempts = script_attempts(script, listener);
        CHECK(attempts >= 10 && attempts <= 12); /* a tenth of a second apart */
        CHECK_EQUAL(stats.accept_errors, attempts);
        script_refuse(script, listener, 0);
        CHECK_EQUAL(pass(SECOND / 5), 0);
        CHECK_EQUAL(stats.open, 1);
        end();
    }
}

TEST(each_episode_is_told)
{
    begin_listening();
    for (int episode = 1; episode <= 3; episode++) {
        script_connect(script, listener);
        script_refuse(script, listener, EMFILE);
        CHECK_EQUAL(pass(SECOND / 2), 1);
        expect(0, MUX_EV_TROUBLE, EMFILE);
        script_refuse(script, listener, 0);
        CHECK_EQUAL(pass(SECOND / 5), 0);
        CHECK_EQUAL(stats.open, episode); /* the episode is over: somebody was let in */
    }
    end();
}

TEST(a_listener_that_rests_holds_up_no_connection)
{
    begin_listening();
    int peer = adopted(MUX_VERB_ECHO, 0);
    script_connect(script, listener);
    script_refuse(script, listener, ENFILE);
    CHECK_EQUAL(poll_now(), 1);
    script_arrive(script, peer, "hello", 5);
    CHECK_EQUAL(poll_now(), 0);
    CHECK(got(peer, "hello"));
    end();
}

TEST(the_end_of_a_connection_does_not_cut_the_rest_short)
{
    begin_listening();
    script_connect(script, listener);
    script_refuse(script, listener, EMFILE);
    CHECK_EQUAL(poll_now(), 1);
    for (int i = 0; i < 20; i++) { /* connections that come and go by another way give descriptors back */
        int peer = adopted(MUX_VERB_ECHO, 0);
        script_end(script, peer);
        CHECK_EQUAL(poll_now(), 0);
        CHECK(released(peer));
    }
    CHECK_EQUAL(script_attempts(script, listener), 1);
    CHECK_EQUAL(pass(SECOND / 5), 0);
    CHECK(script_attempts(script, listener) >= 2);
    end();
}

TEST(a_listener_that_rests_can_be_taken_away)
{
    begin_listening();
    script_connect(script, listener);
    script_refuse(script, listener, EMFILE);
    CHECK_EQUAL(poll_now(), 1);
    CHECK_EQUAL(mux_unlisten(loop, (uint32_t)place), 0);
    CHECK_EQUAL(mux_unlisten(loop, (uint32_t)place), -ESTALE);
    CHECK_EQUAL(pass(SECOND), 0);
    CHECK_EQUAL(script_attempts(script, listener), 1);
    end();
}
