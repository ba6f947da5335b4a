/* stream: a run's decisions in a file, as text:
 *   # why it failed
 *   seed N / steps N / bug N, one a line
 *   then the numbers; zK stands for K zeros in a row. */
#include "lib/base/bytes.h"
#include "tests/sim/runner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void save_numbers(FILE *f, const uint32_t *made, size_t count)
{
    unsigned on_line = 0;
    for (size_t k = 0; k < count;) {
        size_t zeros = 0;
        while (k + zeros < count && made[k + zeros] == 0)
            zeros++;
        if (zeros > 1) {
            (void)fprintf(f, "z%zu", zeros);
            k += zeros;
        } else {
            (void)fprintf(f, "%" PRIu32, made[k++]);
        }
        (void)fputc(++on_line % 24 == 0 ? '\n' : ' ', f);
    }
    (void)fputc('\n', f);
}

bool stream_save(const char *path, const char *why)
{
    struct run_view v = subject.view();
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return false;
    size_t used = v.luck->replaying ? v.luck->next : v.luck->count;
    (void)fprintf(f, "# %s\nseed %" PRIu64 "\nsteps %" PRIu64 "\nbug %u\n", why, v.seed, v.steps_max,
                  penstock_bug);
    save_numbers(f, v.luck->made, used);
    return fclose(f) == 0;
}

static bool load_numbers(FILE *f, struct stream *s)
{
    char word[32];
    size_t cap = 0;
    while (fscanf(f, "%31s", word) == 1) {
        uint64_t value = 0, times = 1;
        bool zeros = word[0] == 'z';
        if (!span_u64(span_str(word + zeros), zeros ? &times : &value) || times > (UINT64_C(1) << 26))
            return false;
        if (s->count + times > cap) {
            cap = (s->count + times) * 2;
            s->made = realloc(s->made, cap * sizeof *s->made);
            if (s->made == NULL)
                abort();
        }
        for (; times > 0; times--)
            s->made[s->count++] = (uint32_t)value;
    }
    return true;
}

bool stream_load(const char *path, struct stream *ret)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    *ret = (struct stream){0};
    bool good = f != NULL && fgets(line, sizeof line, f) != NULL && line[0] == '#' &&
                fscanf(f, "seed %" SCNu64 "\nsteps %" SCNu64 "\nbug %u\n", &ret->seed, &ret->steps,
                       &penstock_bug) == 3 &&
                load_numbers(f, ret);
    if (f != NULL)
        (void)fclose(f);
    if (!good)
        (void)fprintf(stderr, "%s: %s is not a saved run\n", subject.name, path);
    return good;
}
