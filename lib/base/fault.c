/* fault: see fault.h. */
#include "lib/base/fault.h"

#include "lib/base/ensure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum err fault_set(struct fault *why, enum err err, const char *format, ...)
{
    ensure(err != OK);
    if (why == NULL)
        return err;
    why->err = err;
    why->sys = 0;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return err;
}

enum err fault_sys(struct fault *why, int sys, const char *format, ...)
{
    if (why == NULL)
        return ERR_IO;
    why->err = ERR_IO;
    why->sys = sys < 0 ? -sys : sys;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof why->text)
        (void)snprintf(why->text + n, sizeof why->text - (size_t)n, ": %s", strerror(why->sys));
    return ERR_IO;
}

enum err fault_context(struct fault *why, const char *format, ...)
{
    char joined[sizeof why->text];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(joined, sizeof joined, format, args);
    va_end(args);
    if (n < 0)
        n = 0;
    /* The end of an over-long text is cut. */
    if ((size_t)n + 2 < sizeof joined) {
        size_t room = sizeof joined - (size_t)n - 3;
        size_t len = strnlen(why->text, sizeof why->text - 1);
        memcpy(joined + n, ": ", 2);
        memcpy(joined + n + 2, why->text, len < room ? len : room);
        joined[(size_t)n + 2 + (len < room ? len : room)] = '\0';
    }
    memcpy(why->text, joined, sizeof joined);
    return why->err;
}

const char *err_name(enum err err)
{
    static const char *const names[] = {
        [OK] = "OK",
        [ERR_AGAIN] = "ERR_AGAIN",
        [ERR_FULL] = "ERR_FULL",
        [ERR_TOO_BIG] = "ERR_TOO_BIG",
        [ERR_MALFORMED] = "ERR_MALFORMED",
        [ERR_UNSUPPORTED] = "ERR_UNSUPPORTED",
        [ERR_CORRUPT] = "ERR_CORRUPT",
        [ERR_CLOSED] = "ERR_CLOSED",
        [ERR_IO] = "ERR_IO",
        [ERR_CONFIG] = "ERR_CONFIG",
        [ERR_DENIED] = "ERR_DENIED",
        [ERR_NOT_FOUND] = "ERR_NOT_FOUND",
        [ERR_IN_USE] = "ERR_IN_USE",
    };
    if ((size_t)err >= sizeof names / sizeof names[0] || names[err] == NULL)
        return "ERR_?";
    return names[err];
}
