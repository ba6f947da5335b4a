/* manual: see manual.h.
 *
 *   manual bash|zsh|fish             a completion, to standard output
 *   manual page TEMPLATE VERSION     a page: the template, with @COMMANDS@, @KEYS@ and @VERSION@ replaced
 *
 * The templates hold the prose; whatever could drift away from the program is replaced. */
#include "packaging/manual/manual.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void page_line(const char *line, const char *version)
{
    const char *at = strstr(line, "@VERSION@");
    if (strncmp(line, "@COMMANDS@", 10) == 0)
        roff_commands(stdout);
    else if (strncmp(line, "@KEYS@", 6) == 0)
        roff_keys(stdout);
    else if (at != NULL)
        printf("%.*s%s%s", (int)(at - line), line, version, at + strlen("@VERSION@"));
    else
        printf("%s", line);
}

static bool page(const char *path, const char *version)
{
    char line[1024];
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        perror(path);
        return false;
    }
    while (fgets(line, sizeof line, in) != NULL)
        page_line(line, version);
    bool good = !ferror(in);
    (void)fclose(in);
    return good;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *shell;
        void (*write)(FILE *out);
    } completions[] = {{"bash", completions_bash}, {"zsh", completions_zsh}, {"fish", completions_fish}};
    bool good = false;
    for (unsigned i = 0; argc == 2 && i < sizeof completions / sizeof completions[0]; i++)
        if (strcmp(argv[1], completions[i].shell) == 0) {
            completions[i].write(stdout);
            good = true;
        }
    if (argc == 4 && strcmp(argv[1], "page") == 0)
        good = page(argv[2], argv[3]);
    else if (!good)
        (void)fprintf(stderr, "usage: manual bash|zsh|fish | page TEMPLATE VERSION\n");
    return good && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
