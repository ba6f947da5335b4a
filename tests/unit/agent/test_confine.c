/* What the confined process can still do, and what it cannot. Criterion runs each test in a process of its own. */
#include "agent/confine.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void confine(void)
{
    struct fault why;
    enum err err = confine_system_calls(&why);
    if (err == ERR_UNSUPPORTED)
        cr_skip_test("built without the filter");
    cr_assert(err == OK, "%s", why.text);
}

/* The same for tests that end by the filter's exit code: without a filter they have nothing to show, and end by it. */
static void confine_or_end(void)
{
    struct fault why;
    enum err err = confine_system_calls(&why);
    if (err == ERR_UNSUPPORTED)
        exit(70);
    cr_assert(err == OK, "%s", why.text);
}

static void *nothing(void *argument)
{
    return argument;
}

/* What this machine says of the name: one without /etc/hosts may not know it. */
static int look_up_localhost(void)
{
    struct addrinfo *found = NULL;
    int result = getaddrinfo("localhost", "80", NULL, &found);
    if (found != NULL)
        freeaddrinfo(found);
    return result;
}

Test(confine, threads_names_and_files_go_on)
{
    int before = look_up_localhost();
    confine();
    pthread_t thread;
    void *result;
    int here;
    cr_assert_eq(pthread_create(&thread, NULL, nothing, &here), 0);
    cr_assert_eq(pthread_join(thread, &result), 0);
    cr_expect_eq(result, &here);
    cr_expect_eq(look_up_localhost(), before);
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_expect_eq(write(fd, "x", 1), 1);
    cr_expect_eq(fdatasync(fd), 0);
    cr_expect_eq(close(fd), 0);
    struct rlimit limit;
    cr_expect_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
}

struct waiting {
    int told[2]; /* a pipe */
    int result, error;
};

static void *tries_when_told(void *argument)
{
    struct waiting *w = argument;
    char byte;
    if (read(w->told[0], &byte, 1) == 1) {
        w->result = setuid(0);
        w->error = errno;
    }
    return NULL;
}

Test(confine, a_thread_that_runs_already_is_confined_too)
{
    struct waiting w = {.result = 1};
    pthread_t thread;
    cr_assert_eq(pipe(w.told), 0);
    cr_assert_eq(pthread_create(&thread, NULL, tries_when_told, &w), 0);
    confine();
    cr_assert_eq(write(w.told[1], "x", 1), 1);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_expect_eq(w.result, -1);
    cr_expect_eq(w.error, EPERM);
}

Test(confine, what_is_not_needed_is_not_permitted)
{
    confine();
    cr_expect_eq(socket(AF_PACKET, SOCK_RAW, 0), -1);
    cr_expect_eq(errno, EPERM);
    cr_expect_eq(setuid(0), -1);
    cr_expect_eq(errno, EPERM);
    cr_expect_eq(kill(getppid(), 0), -1);
    cr_expect_eq(errno, EPERM);
    cr_expect_eq(fork(), -1);
    cr_expect_eq(errno, EPERM);
    struct rlimit limit = {0, 0};
    cr_expect_eq(setrlimit(RLIMIT_NOFILE, &limit), -1);
}

Test(confine, another_program_ends_the_process, .exit_code = 70)
{
    confine_or_end();
    (void)execl("/bin/true", "true", (char *)NULL);
    exit(1);
}

Test(confine, another_process_memory_ends_the_process, .exit_code = 70)
{
    confine_or_end();
    (void)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
    exit(1);
}
