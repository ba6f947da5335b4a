/* stream: a run's decisions in a file, as text:
 *   # why it failed
 *   seed N / steps N / bug N, one a line
 *   then the numbers; zK stands for K zeros in a row. */
#include "tests/sim/runner.h"

#include <inttypes.h>
#include <stdio.h>
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

bool stream_save(const char *path, const struct world *w, const char *why)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return false;
    size_t used = w->luck.replaying ? w->luck.next : w->luck.count;
    (void)fprintf(f, "# %s\nseed %" PRIu64 "\nsteps %" PRIu64 "\nbug %u\n", why, w->seed, w->steps_max,
                  penstock_bug);
    save_numbers(f, w->luck.made, used);
    return fclose(f) == 0;
}

static bool load_numbers(FILE *f, uint32_t **made, size_t *count)
{
    char word[32];
    size_t cap = 0;
    while (fscanf(f, "%31s", word) == 1) {
        uint64_t value = 0, times = 1;
        bool zeros = word[0] == 'z';
        if (!span_u64(span_str(word + zeros), zeros ? &times : &value) || times > (UINT64_C(1) << 26))
            return false;
        if (*count + times > cap) {
            cap = (*count + times) * 2;
            *made = realloc(*made, cap * sizeof(**made));
            if (*made == NULL)
                abort();
        }
        for (; times > 0; times--)
            (*made)[(*count)++] = (uint32_t)value;
    }
    return true;
}

bool stream_load(const char *path, uint64_t *ret_seed, uint64_t *ret_steps, uint32_t **ret_made,
                 size_t *ret_count)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    *ret_made = NULL;
    *ret_count = 0;
    bool good =
        f != NULL && fgets(line, sizeof(line), f) != NULL && line[0] == '#' &&
        fscanf(f, "seed %" SCNu64 "\nsteps %" SCNu64 "\nbug %u\n", ret_seed, ret_steps, &penstock_bug) == 3 &&
        load_numbers(f, ret_made, ret_count);
    if (f != NULL)
        (void)fclose(f);
    if (!good)
        (void)fprintf(stderr, "sim: %s is not a saved run\n", path);
    return good;
}
