/* fault: how functions of ours fail.
 *
 * One enum for what a caller may branch on, one struct for what a person must read. A fault is described
 * once, where it is found; callers on the way up add where they were with fault_context(); it is logged
 * once, where it is handled. Code in lib/ never logs what it also returns. */
#ifndef PENSTOCK_BASE_FAULT_H
#define PENSTOCK_BASE_FAULT_H

#include <stddef.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

enum err {
    OK = 0,
    ERR_AGAIN,       /* not now: try again after the news that the callee's header names */
    ERR_FULL,        /* no room: a bound was reached that time will lift */
    ERR_TOO_BIG,     /* larger than a bound that time will not lift */
    ERR_MALFORMED,   /* bytes from outside break their format */
    ERR_UNSUPPORTED, /* well formed, but nothing we take (encoding, version, charset) */
    ERR_CORRUPT,     /* bytes of ours came back damaged */
    ERR_CLOSED,      /* the object no longer takes this call (stopping, failed) */
    ERR_IO,          /* the system refused; fault.sys has the errno */
    ERR_CONFIG,      /* configuration contradicts itself or the machine */
    ERR_DENIED,      /* credentials or permission */
    ERR_NOT_FOUND,
    ERR_IN_USE,      /* somebody else holds it (lock, port, socket path) */
};

/* Filled only when the call returned something other than OK. */
struct fault {
    enum err err;
    int sys; /* errno, 0 if none */
    char text[240];
};

/* Fills `why` (may be NULL) and returns `err`, so that a failing path is one line. */
enum err fault_set(struct fault *why, enum err err, const char *format, ...) PRINTF_LIKE(3, 4);

/* The same with an errno, whose text is appended: "open FORMAT: No space left on device". */
enum err fault_sys(struct fault *why, int sys, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "CONTEXT: " before the text of a fault that is on its way up; returns why->err. */
enum err fault_context(struct fault *why, const char *format, ...) PRINTF_LIKE(2, 3);

/* A name for logs and tests: "ERR_FULL". Static storage. */
const char *err_name(enum err err);

#endif
