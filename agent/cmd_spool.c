/* cmd_spool: `penstock spool verify|dump`, reads spools that no agent serves, without changing a byte. */
#include "agent/cmd.h"
#include "agent/disk_uv.h"
#include "agent/exit.h"
#include "agent/letter_json.h"
#include "agent/system.h"
#include "lib/codec/json.h"
#include "lib/spool/verify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES_MAX (64u << 20)
#define NAMES_MAX 4096

struct options {
    bool dump, json, dead;
    const char *dir;
};

struct look {
    const struct options *options;
    const char *name; /* of the spool */
    struct bytes line;
    unsigned damages;
};

/* --- one spool ------------------------------------------------------------------------------------------ */

static void on_damage(void *ctx, const struct fault *what)
{
    struct look *l = ctx;
    l->damages++;
    (void)fprintf(stderr, "%s: damaged: %s\n", l->name, what->text);
}

static void print_line(struct look *l, enum err err)
{
    if (err != OK)
        (void)fprintf(stderr, "%s: an event is too large to be shown\n", l->name);
    else
        (void)fwrite(l->line.at, 1, l->line.len, stdout); /* command_printed() has the last word */
}

static void on_pending(void *ctx, const struct spool_item *item)
{
    struct look *l = ctx;
    bytes_clear(&l->line);
    print_line(l, item_json_append(&l->line, l->name, item));
}

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    struct look *l = ctx;
    bytes_clear(&l->line);
    print_line(l, letter_json_append(&l->line, letter));
}

static uint64_t dropped(const struct spool_ledger *ledger)
{
    uint64_t n = 0;
    for (unsigned r = 0; r < SPOOL_DROP_REASONS; r++)
        n += ledger->dropped[r];
    return n;
}

#define ULL(n) ((unsigned long long)(n))

static void print_verdict(struct look *l, const struct spool_verdict *v)
{
    const struct spool_ledger *g = &v->ledger;
    if (l->options->json) {
        bytes_clear(&l->line);
        enum err err = json_append_string_lossy(&l->line, span_str(l->name), NULL); /* a copy may have any name */
        printf("{\"output\":");
        print_line(l, err);
        printf(",\"sound\":%s,\"damages\":%u,\"accepted\":%llu,\"pending\":%llu,\"delivered\":%llu,"
               "\"dead\":%llu,\"dropped\":%llu,\"pending_found\":%llu,\"dead_found\":%llu,\"open_batches\":%llu,"
               "\"torn_bytes\":%llu,\"stopped_in_order\":%s}\n",
               v->damages == 0 ? "true" : "false", v->damages, ULL(g->accepted), ULL(g->pending), ULL(g->delivered),
               ULL(g->dead), ULL(dropped(g)), ULL(v->pending_found), ULL(v->letters_found), ULL(v->open_batches),
               ULL(v->torn_bytes), v->clean ? "true" : "false");
        return;
    }
    printf("%s: %s\n", l->name, v->damages == 0 ? "sound" : "DAMAGED");
    printf("  accepted %llu = pending %llu + delivered %llu + dead %llu + dropped %llu\n", ULL(g->accepted),
           ULL(g->pending), ULL(g->delivered), ULL(g->dead), ULL(dropped(g)));
    printf("  found: %llu pending events, %llu dead letters, %llu open batches\n", ULL(v->pending_found),
           ULL(v->letters_found), ULL(v->open_batches));
    printf("  last stop: %s", v->clean ? "in order" : "not in order (the next start recovers)");
    if (v->torn_bytes > 0)
        printf("; %llu bytes of an unfinished commit at the end, nobody was answered for them", ULL(v->torn_bytes));
    printf("\n");
}

/* ERR_NOT_FOUND becomes -1: no spool here. */
static int verify_one(const struct options *o, int parent, const char *path, const char *name)
{
    struct spool_verdict verdict = {0};
    struct fault why;
    int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int sys = errno;
        (void)fprintf(stderr, "penstock spool: %s: %s\n", path, strerror(sys));
        return sys == EACCES ? EXIT_NO_PERMISSION : EXIT_USAGE_ERROR;
    }
    struct look look = {.options = o, .name = name};
    bytes_init(&look.line, LINE_BYTES_MAX);
    struct spool_verify v = {.ctx = &look,
                             .damage = on_damage,
                             .pending = o->dump && !o->dead ? on_pending : NULL,
                             .letter = o->dump && o->dead ? on_letter : NULL};
    struct spool_vfs vfs = disk_uv_vfs_for(&fd);
    enum err err = spool_verify(&vfs, &v, &verdict, &why);
    (void)close(fd); /* only read from */
    if (err == OK && !o->dump)
        print_verdict(&look, &verdict);
    bytes_deinit(&look.line);
    if (err == ERR_NOT_FOUND)
        return -1;
    if (err != OK) {
        (void)fprintf(stderr, "penstock spool: %s: %s\n", name, why.text);
        return err == ERR_UNSUPPORTED ? EXIT_BAD_CONFIG : EXIT_STORAGE_FAILED;
    }
    return verdict.damages > 0 ? EXIT_REFUSED : 0;
}

/* --- which ones ----------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every spool in a data directory; the worst verdict counts. One that an agent has served (`locked`) may have none. */
static int verify_all(const struct options *o, int dir_fd, bool locked)
{
    char *names[NAMES_MAX];
    unsigned count = 0, spools = 0;
    int code = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        (void)fprintf(stderr, "penstock spool: %s: %s\n", o->dir, strerror(errno));
        return EXIT_NO_PERMISSION;
    }
    for (const struct dirent *e; (e = readdir(dir)) != NULL && count < NAMES_MAX;) {
        struct stat st;
        if (e->d_name[0] != '.' && fstatat(fd, e->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode))
            names[count++] = must_strdup(e->d_name);
    }
    (void)closedir(dir);
    qsort(names, count, sizeof names[0], by_name);
    for (unsigned i = 0; i < count; i++) {
        int one = verify_one(o, dir_fd, names[i], names[i]);
        spools += one != -1;
        if (one > 0 && code != EXIT_BAD_CONFIG)
            code = one;
        free(names[i]);
    }
    if (spools == 0 && !locked) {
        (void)fprintf(stderr, "penstock spool: %s: neither a data directory nor an output's directory in one\n", o->dir);
        return EXIT_USAGE_ERROR;
    }
    if (spools == 0 && !o->dump)
        printf("no spools in %s\n", o->dir);
    return code;
}

static bool has_lock(const char *dir, const char *below)
{
    char path[4096];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%sLOCK", dir, below);
    return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int lock(const char *path, int *ret_dir, int *ret_lock)
{
    struct fault why;
    enum err err = system_lock_data_dir(path, false, ret_dir, ret_lock, &why);
    if (err == OK)
        return 0;
    (void)fprintf(stderr, "penstock spool: %s\n", why.text);
    return err == ERR_IN_USE ? EXIT_CANT_CREATE : why.sys == EACCES ? EXIT_NO_PERMISSION : EXIT_STORAGE_FAILED;
}

/* The last part of a path, without slashes behind it. */
static const char *name_of(char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    char *slash = strrchr(path, '/');
    return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

static int verify_dir(const struct options *o)
{
    char parent[4096];
    char *copy = must_strdup(o->dir);
    int dir_fd = -1, lock_fd = -1, code = 0;
    bool whole = has_lock(o->dir, "");
    (void)snprintf(parent, sizeof parent, "%s/..", o->dir);
    if (whole) {
        code = lock(o->dir, &dir_fd, &lock_fd);
        if (code == 0)
            code = verify_all(o, dir_fd, true);
    } else {
        /* One output's directory; a copy of one that stands elsewhere has no lock, and needs none. */
        if (has_lock(o->dir, "../"))
            code = lock(parent, &dir_fd, &lock_fd);
        if (code == 0)
            code = verify_one(o, AT_FDCWD, o->dir, name_of(copy));
        if (code == -1) { /* a copy of a whole data directory */
            int fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            code = verify_all(o, fd, false);
            (void)close(fd); /* only read from */
        }
    }
    if (lock_fd >= 0)
        (void)close(lock_fd); /* lets go of the lock */
    if (dir_fd >= 0)
        (void)close(dir_fd); /* only read from */
    free(copy);
    return code;
}

static int run(int argc, char **argv)
{
    struct options o = {0};
    const char *value;
    int key;
    while ((key = command_next(&cmd_spool, argc, argv, &value)) >= 0) {
        o.json |= key == 'j';
        o.dead |= key == 'd';
    }
    if (key != COMMAND_END)
        return command_left(key);
    if (optind == argc)
        return command_mistake(&cmd_spool, "verify or dump is needed");
    o.dump = strcmp(argv[optind], "dump") == 0;
    if (!o.dump && strcmp(argv[optind], "verify") != 0)
        return command_mistake(&cmd_spool, "there is verify and dump, not '%s'", argv[optind]);
    if (argc - optind != 2)
        return command_mistake(&cmd_spool, "one DIR is needed");
    if (o.dump ? o.json : o.dead)
        return command_mistake(&cmd_spool, "--json belongs to verify, --dead to dump");
    o.dir = argv[optind + 1];
    return command_printed(&cmd_spool, verify_dir(&o));
}

const struct command cmd_spool = {
    .name = "spool",
    .run = run,
    .brief = "verify or dump spools that no agent serves",
    .usage = (const char *const[]){"spool verify [--json] DIR", "spool dump [--dead] DIR", NULL},
    .about = "Reads spools that no agent serves now, and changes nothing. DIR is a data directory, or one output's "
             "directory in it.",
    .verbs = (const struct command_verb[]){
        {"verify", "DIR", "reads every frame, recounts accepted = pending + delivered + dead + dropped, says what is "
                          "damaged"},
        {"dump", "DIR", "prints the pending events as NDJSON: output, seq, time, partition, id, event"},
        {.name = NULL}},
    .options = (const struct command_option[]){
        {'j', "json", NULL, NULL, "verify: one JSON object per spool"},
        {'d', "dead", NULL, NULL, "dump: the dead letters instead: id, time, reason, status, answer, partition, attempts, "
                                  "event"},
        {.name = NULL}},
    .exits = "0 sound, 64 wrong command line, 65 damaged, 73 an agent uses it, 74 it cannot be read, or standard output takes no more; 77 permission, "
             "78 written by a newer version.",
    .examples = (const struct command_example[]){
        {"penstock spool verify /var/lib/penstock", "every spool of a data directory"},
        {"penstock spool dump /var/lib/penstock/telemetry | jq .event", "what one output still has to send"},
        {.line = NULL}},
};
