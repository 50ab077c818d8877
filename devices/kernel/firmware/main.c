/* Firmware that recommends from a bundle in flash: no heap, no file system, no operating system.

   It prints through semihosting, which QEMU and debuggers offer; a product would write to a display or a radio. The
   history is built in, as -DHISTORY='3,17,42': raw ids of items. With -DCALLS=20 it measures that many random requests
   instead, of -DLENGTH items where the bundle has no users, without -DEXCLUDE others, and answers -DASK=0,1, rows of users:
   this is the device cortex-m of edgerec bench. */
#include "../edgerec_kernel.h"

#ifndef HISTORY
#define HISTORY 1
#endif
#ifndef K
#define K 10
#endif
#ifndef ARENA_BYTES
#define ARENA_BYTES 8192 /* er_open says what it takes */
#endif
#ifndef WORK_BYTES
#define WORK_BYTES 4096 /* er_work_size says what it takes */
#endif

extern uint8_t bundle_start[], bundle_end[], data_load[], data_start[], data_end[], bss_start[], bss_end[];
extern uint8_t stack_top[];

static uint64_t arena[ARENA_BYTES / 8], work[WORK_BYTES / 8];
static int32_t items[K];
static float scores[K];

enum { WRITE0 = 4, EXIT = 0x18, EXITED = 0x20026, FAILED = 0x20023 };
enum { PAINT = 0x5a, CLOCK = 40 /* instructions a tick under -icount shift=0: 25 MHz */ };

static volatile uint32_t *const SYSTICK = (volatile uint32_t *)0xe000e010;

static void semihost(uint32_t call, const void *argument) {
    register uint32_t number __asm__("r0") = call;
    register const void *given __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(number) : "r"(given) : "memory");
}

static void print(const char *text) { semihost(WRITE0, text); }

static void print_number(int64_t number, const char *after) {
    char text[24], *at = text + sizeof text;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    *--at = 0;
    do *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0) *--at = '-';
    print(at);
    print(after);
}

static uint32_t ticks(void) { return 0xffffff - SYSTICK[2]; }

static void restart(void) {
    SYSTICK[1] = 0xffffff;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    while (SYSTICK[2] == 0) continue;
}

static void check(er_status status) {
    if (status == ER_OK) return;
    print(er_message(status));
    print("\n");
    semihost(EXIT, (const void *)FAILED);
}

/* Bytes of the stack that were ever written to, below the frame of `reset`. */
static uint32_t stack_used(void) {
    const uint8_t *at = bss_end;
    while (at < stack_top && *at == PAINT) at++;
    return (uint32_t)(stack_top - at);
}

#ifdef CALLS

static uint32_t below(uint32_t n) {
    static uint32_t state = 2654435761u * (SEED) + 1;
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state % n;
}

static void measure(const er_model *model) {
    static const int32_t ask[] = {ASK - 1};
    static int32_t history[LENGTH], excluded[EXCLUDE + 1];
    er_facts facts = er_facts_of(model);
    er_request request = {.user = -1, .exclude = excluded, .n_exclude = EXCLUDE};
    uint32_t found;
    for (uint32_t call = 0; call < CALLS; call++) {
        for (uint32_t one = 0; one < EXCLUDE; one++) excluded[one] = (int32_t)below(facts.items);
        for (uint32_t one = 0; one < LENGTH; one++) history[one] = (int32_t)below(facts.items);
        if (facts.users) request.user = (int32_t)below(facts.users);
        else request.history = history, request.n_history = LENGTH;
        restart();
        check(er_recommend(model, &request, K, items, scores, &found, work, sizeof work));
        print_number((int64_t)ticks() * CLOCK, " instructions to recommend\n");
    }
    for (uint32_t one = 0; ask[one] >= 0 && facts.users; one++) {
        request = (er_request){.user = ask[one]};
        check(er_recommend(model, &request, K, items, scores, &found, work, sizeof work));
        for (uint32_t place = 0; place < found; place++) print_number(items[place], " ");
        print("are best\n");
    }
}

#else

static void measure(const er_model *model) {
    static const int64_t ids[] = {HISTORY};
    int32_t history[sizeof ids / sizeof *ids];
    uint32_t found, n = sizeof ids / sizeof *ids;
    for (uint32_t one = 0; one < n; one++)
        check((history[one] = er_row_of_int(model, ER_ITEM, ids[one])) < 0 ? ER_ROW : ER_OK);
    er_request request = {.history = history, .n_history = n, .user = -1};
    restart();
    check(er_recommend(model, &request, K, items, scores, &found, work, sizeof work));
    print_number((int64_t)ticks() * CLOCK, " instructions to recommend\n");
    for (uint32_t one = 0; one < found; one++) {
        int64_t id;
        check(er_int_of_row(model, ER_ITEM, items[one], &id));
        print_number(id, " ");
        print_number((int64_t)(scores[one] * 1e6f), " millionths\n");
    }
}

#endif

static void answer(void) {
    size_t need;
    const er_model *model;
    er_source source = {.tables = {bundle_start, (size_t)(bundle_end - bundle_start)}};
    restart();
    check(er_open(&source, arena, sizeof arena, &need, &model));
    print_number((int64_t)ticks() * CLOCK, " instructions to open\n");
    print_number((int64_t)need, " bytes of arena\n");
    print_number((int64_t)er_work_size(model), " bytes of work\n");
    measure(model);
    er_close(model);
}

void reset(void);

void reset(void) {
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20; /* the floating point unit */
    uint8_t *to = data_start;
    for (const uint8_t *from = data_load; to < data_end;) *to++ = *from++;
    for (to = bss_start; to < bss_end;) *to++ = 0;
    for (uint8_t *end = (uint8_t *)__builtin_frame_address(0) - 64; to < end;) *to++ = PAINT;
    answer();
    print_number(stack_used(), " bytes of stack\n");
    print_number(bss_end - data_start, " bytes of data\n");
    semihost(EXIT, (const void *)EXITED);
    for (;;) continue;
}

static void fault(void) {
    print("fault\n");
    semihost(EXIT, (const void *)FAILED);
}

typedef void (*handler)(void);
__attribute__((section(".vectors"), used)) static const handler VECTORS[16] = {
    (handler)(uintptr_t)stack_top, reset, fault, fault, fault, fault, fault,
};
