/* shrink: makes a failing run smaller while it still fails in the same way.
 *
 * Each attempt runs in a child of its own. First the steps are cut, then ever smaller chunks of the decisions
 * are set to zero (the plainest choice) or left out, until nothing helps or a minute has passed. */
#include "tests/sim/runner.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct attempt {
    char why[512];
    uint64_t steps;
    size_t used; /* decisions */
};
static struct attempt *shared;

static void on_fail(const char *why)
{
    struct run_view v = subject.view();
    (void)snprintf(shared->why, sizeof(shared->why), "%s", why);
    shared->steps = v.steps;
    shared->used = v.luck->next;
    _exit(1);
}

/* What failed, without numbers and ids. */
static void kind_of(const char *why, char *into, size_t cap)
{
    size_t n = 0;
    for (; *why != 0 && *why != '(' && n + 1 < cap; why++)
        if (!isxdigit((unsigned char)*why))
            into[n++] = *why;
    into[n] = 0;
}

static bool fails(const struct stream *c, const char *kind)
{
    *shared = (struct attempt){0};
    pid_t pid = fork();
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        runner_watch(NULL);
        run_on_fail = on_fail;
        runner_replay(c, 20);
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status == 0)
        return false;
    if (kind == NULL || shared->why[0] == 0)
        return true;
    char now[512];
    kind_of(shared->why, now, sizeof(now));
    return strcmp(now, kind) == 0;
}

static bool try_zero(struct stream *c, size_t at, size_t len, const char *kind)
{
    uint32_t *old = malloc(len * sizeof(*old));
    bool any = false;
    if (old == NULL)
        abort();
    memcpy(old, c->made + at, len * sizeof(*old));
    for (size_t k = 0; k < len; k++)
        any = any || old[k] != 0;
    memset(c->made + at, 0, len * sizeof(*old));
    bool good = any && fails(c, kind);
    if (!good)
        memcpy(c->made + at, old, len * sizeof(*old));
    free(old);
    return good;
}

static bool try_without(struct stream *c, size_t at, size_t len, const char *kind)
{
    struct stream shorter = *c;
    shorter.count = c->count - len;
    shorter.made = malloc((shorter.count + 1) * sizeof(*shorter.made));
    if (shorter.made == NULL)
        abort();
    memcpy(shorter.made, c->made, at * sizeof(*c->made));
    memcpy(shorter.made + at, c->made + at + len, (c->count - at - len) * sizeof(*c->made));
    bool good = fails(&shorter, kind);
    if (good) {
        free(c->made);
        *c = shorter;
    } else {
        free(shorter.made);
    }
    return good;
}

static void cut(struct stream *c, const char *kind)
{
    for (unsigned k = 0; k < 8; k++) {
        struct stream shorter = *c;
        if (!fails(c, kind) || shared->used >= c->count)
            break;
        c->count = shared->used;
        shorter.steps = shared->steps + 1 < c->steps ? shared->steps + 1 : c->steps;
        if (fails(&shorter, kind))
            c->steps = shorter.steps;
    }
    while (c->steps > 16) {
        struct stream shorter = *c;
        shorter.steps = c->steps * 3 / 4;
        if (!fails(&shorter, kind))
            break;
        c->steps = shorter.steps;
    }
}

static void shrink(struct stream *c, const char *kind, double deadline)
{
    cut(c, kind);
    for (bool better = true; better && runner_now() < deadline;) {
        better = false;
        for (size_t len = c->count / 2; len > 0; len /= 2)
            for (size_t at = 0; at + len <= c->count && runner_now() < deadline;) {
                if (try_without(c, at, len, kind)) {
                    better = true;
                    continue;
                }
                better = try_zero(c, at, len, kind) || better;
                at += len;
            }
        cut(c, kind);
    }
    while (c->count > 0 && c->made[c->count - 1] == 0)
        c->count--;
}

int run_shrink(const struct run_options *o)
{
    struct stream c = {0};
    char kind[512];
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !stream_load(o->shrink, &c))
        return 70;
    if (!fails(&c, NULL)) {
        (void)fprintf(stderr, "%s: %s does not fail\n", subject.name, o->shrink);
        return 65;
    }
    kind_of(shared->why, kind, sizeof(kind));
    size_t before = c.count;
    shrink(&c, kind, runner_now() + (o->seconds == 0 ? 60 : (double)o->seconds));
    bool still = fails(&c, kind);
    subject.prepare(c.seed, c.steps);
    decisions_from_stream(subject.view().luck, c.made, c.count);
    subject.view().luck->next = c.count;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s.small", o->shrink);
    (void)printf("%zu decisions became %zu, %" PRIu64 " steps: %s\n%s%s\n", before, c.count, c.steps,
                 shared->why, stream_save(path, shared->why) ? "saved as " : "could not save ", path);
    return still ? 0 : 70;
}
