// # Fibers
//
// A fiber is a stack and a place on it to go on from. Switching saves the registers that a called
// function has to preserve and loads those of the other side: some 20 instructions, where
// swapcontext() asks the system for the signal mask each time. Other processors than x86-64 take
// swapcontext(). AddressSanitizer is told of every switch, or it would take a fiber's frames
// for wild addresses.

#include "simt/state.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { GUARD = 4096 };

// ---- The switch -----------------------------------------------------------------------------

#ifdef __x86_64__

// Leaves the stack pointer at *save and goes on from `load`.
void simt_switch(void **save, void *load);
__asm__(".text\n"
        ".type simt_switch, @function\n"
        "simt_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size simt_switch, .-simt_switch\n");

static void switch_to(void **save, void *load)
{
    simt_switch(save, load);
}

// A stack that looks as if `entry` had been about to be returned to.
static void *fresh_context(char *stack, void (*entry)(void))
{
    void **top = (void **)(stack + SIMT_STACK_BYTES);
    *--top = NULL; // where entry would return to: it does not; keeps the stack aligned
    *--top = (void *)(uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--top = NULL;
    return top;
}

#else

#include <ucontext.h>

static void switch_to(void **save, void *load)
{
    ucontext_t here;
    *save = &here;
    swapcontext(&here, load);
}

static void *fresh_context(char *stack, void (*entry)(void))
{
    ucontext_t *context = (ucontext_t *)(void *)stack;
    getcontext(context);
    context->uc_stack.ss_sp = stack + sizeof *context;
    context->uc_stack.ss_size = SIMT_STACK_BYTES - sizeof *context;
    context->uc_link = NULL;
    makecontext(context, entry, 0);
    return context;
}

#endif

// ---- Going to and fro -----------------------------------------------------------------------

static void enter(void)
{
    simt_runner *runner = simt_current;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &runner->scheduler_stack,
                                    &runner->scheduler_stack_bytes);
#endif
    for (;;) { // every block begins here again
        simt_fiber_main(runner, runner->current);
        simt_fiber_suspend(runner);
    }
}

void simt_fiber_resume(simt_runner *runner, int index)
{
    simt_fiber *fiber = &runner->fiber[index];
    runner->current = index;
    simt_now = &fiber->position;
    if (!fiber->made) {
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(fiber->stack, SIMT_STACK_BYTES);
#endif
        fiber->saved = fresh_context(fiber->stack, enter);
        fiber->sanitizer = NULL;
        fiber->made = true;
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&runner->scheduler_sanitizer, fiber->stack,
                                   SIMT_STACK_BYTES);
#endif
    switch_to(&runner->scheduler, fiber->saved);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(runner->scheduler_sanitizer, NULL, NULL);
#endif
    runner->current = -1;
}

void simt_fiber_suspend(simt_runner *runner)
{
    simt_fiber *fiber = &runner->fiber[runner->current];
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fiber->sanitizer, runner->scheduler_stack,
                                   runner->scheduler_stack_bytes);
#endif
    switch_to(&fiber->saved, runner->scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fiber->sanitizer, &runner->scheduler_stack,
                                    &runner->scheduler_stack_bytes);
#endif
}

void simt_fiber_forget(simt_runner *runner, int index)
{
    runner->fiber[index].made = false;
}

// ---- Stacks ---------------------------------------------------------------------------------

bool simt_stacks_create(simt_runner *runner)
{
    const size_t each = SIMT_STACK_BYTES + GUARD;
    char *memory = mmap(NULL, SIMT_MAX_THREADS * each, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    runner->stacks = memory;
    for (size_t i = 0; i < SIMT_MAX_THREADS; i++) {
        // A stack that overflows runs into the page below it.
        if (mprotect(memory + i * each, GUARD, PROT_NONE) != 0) return false;
        runner->fiber[i].stack = memory + i * each + GUARD;
    }
    return true;
}

void simt_stacks_free(simt_runner *runner)
{
    if (runner->stacks)
        munmap(runner->stacks, SIMT_MAX_THREADS * (size_t)(SIMT_STACK_BYTES + GUARD));
}
