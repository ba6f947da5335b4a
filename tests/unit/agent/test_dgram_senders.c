#include "agent/dgram_senders.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>

static struct dgram_senders s;

static void fresh(void)
{
    s = (struct dgram_senders){0};
}

static void from(const char *address, unsigned port, uint64_t bytes)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        dgram_senders_host(&s, (struct sockaddr *)&v4, bytes);
        return;
    }
    cr_assert_eq(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
    dgram_senders_host(&s, (struct sockaddr *)&v6, bytes);
}

TestSuite(dgram_senders, .init = fresh);

Test(dgram_senders, are_processes_ports_on_loopback_and_hosts_beyond)
{
    struct ucred who = {.pid = 4711, .uid = 1000};
    struct input_sender list[8];
    dgram_senders_process(&s, &who, 600);
    from("127.0.0.1", 5000, 300);
    from("127.0.0.1", 5001, 200);
    from("::1", 5000, 100);
    from("192.0.2.7", 5000, 400);
    from("192.0.2.7", 5001, 400);
    from("2001:db8::7", 5001, 50);
    static const struct input_sender want[] = {{"192.0.2.7", 800},      {"pid 4711 of uid 1000", 600}, {"127.0.0.1:5000", 300},
                                               {"127.0.0.1:5001", 200}, {"[::1]:5000", 100},           {"2001:db8::7", 50}};
    cr_assert_eq(dgram_senders_loudest(&s, list, 8), 6);
    for (unsigned i = 0; i < 6; i++) {
        cr_expect_str_eq(list[i].who, want[i].who);
        cr_expect_eq(list[i].bytes, want[i].bytes);
    }
    cr_assert_eq(dgram_senders_loudest(&s, list, 2), 2);
    cr_expect_str_eq(list[1].who, want[1].who);
}

Test(dgram_senders, the_loud_ones_stay_among_any_number_of_others)
{
    struct input_sender list[2];
    char host[INET_ADDRSTRLEN];
    for (unsigned i = 0; i < 50000; i++) {
        (void)snprintf(host, sizeof host, "10.%u.%u.%u", i % 7, i / 250 % 250, i % 250);
        from(host, 1, 10);
        if (i % 4 == 0)
            from("192.0.2.1", 1, 10);
        if (i % 6 == 0)
            from("192.0.2.2", 1, 10);
    }
    cr_assert_eq(dgram_senders_loudest(&s, list, 2), 2);
    cr_expect_str_eq(list[0].who, "192.0.2.1");
    cr_expect_str_eq(list[1].who, "192.0.2.2");
    cr_expect_leq(list[0].bytes, 12500 * 10, "never more than it sent");
    cr_expect_leq(list[1].bytes, 8334 * 10);
}

Test(dgram_senders, an_address_without_a_host_is_nobody)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct input_sender list[2];
    dgram_senders_host(&s, &none, 10);
    cr_assert_eq(dgram_senders_loudest(&s, list, 2), 0);
}
