/* fiber: see fiber.h. Contexts of ucontext.h; the sanitizer is told about each change of stack. */
#include "tests/sim/fiber.h"

#include <stdlib.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES ((size_t)512 * 1024)

struct fiber {
    ucontext_t context, resumer;
    void (*run)(void *arg);
    void *arg;
    bool ended;
    char *stack;
    struct fiber *spare;
    const void *resumer_stack;
    size_t resumer_stack_bytes;
};

static struct fiber *spares;
static struct fiber *running;

static void leave_for(struct fiber *f, const void *stack, size_t bytes, void **fake)
{
#ifdef HAVE_ASAN
    __sanitizer_start_switch_fiber(fake, stack, bytes);
#endif
    (void)f, (void)stack, (void)bytes, (void)fake;
}

static void arrived(struct fiber *f, void *fake, bool in_fiber)
{
#ifdef HAVE_ASAN
    if (in_fiber)
        __sanitizer_finish_switch_fiber(fake, &f->resumer_stack, &f->resumer_stack_bytes);
    else
        __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    (void)f, (void)fake, (void)in_fiber;
}

static void trampoline(void)
{
    struct fiber *f = running;
    arrived(f, NULL, true);
    f->run(f->arg);
    f->ended = true;
    leave_for(f, f->resumer_stack, f->resumer_stack_bytes, NULL);
    (void)setcontext(&f->resumer);
}

/* A function of its own: getcontext() may return twice, in the compiler's eyes. */
static void set_up(ucontext_t *context, char *stack)
{
    if (getcontext(context) != 0)
        abort();
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK_BYTES;
    context->uc_link = NULL;
    makecontext(context, trampoline, 0);
}

struct fiber *fiber_new(void (*run)(void *arg), void *arg)
{
    struct fiber *f = spares;
    if (f != NULL) {
        spares = f->spare;
    } else {
        f = calloc(1, sizeof(*f));
        if (f == NULL || (f->stack = malloc(STACK_BYTES)) == NULL)
            abort();
    }
#ifdef HAVE_ASAN
    /* An abandoned job leaves its frames' poison behind. */
    __asan_unpoison_memory_region(f->stack, STACK_BYTES);
#endif
    f->run = run;
    f->arg = arg;
    f->ended = false;
    set_up(&f->context, f->stack);
    return f;
}

bool fiber_resume(struct fiber *f)
{
    void *fake = NULL;
    running = f;
    leave_for(f, f->stack, STACK_BYTES, &fake);
    (void)swapcontext(&f->resumer, &f->context);
    arrived(f, fake, false);
    running = NULL;
    return f->ended;
}

void fiber_rest(void)
{
    struct fiber *f = running;
    void *fake = NULL;
    leave_for(f, f->resumer_stack, f->resumer_stack_bytes, &fake);
    (void)swapcontext(&f->context, &f->resumer);
    arrived(f, fake, true);
}

bool fiber_inside(void)
{
    return running != NULL;
}

void fiber_drop(struct fiber *f)
{
    f->spare = spares;
    spares = f;
}
