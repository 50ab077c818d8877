/* Whether this CPU has the instructions of wide.h. */
#include "kernel.h"

#if ER_WIDE

#if defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)

bool er_has_wide(void) { return true; } /* the build requires them */

#elif defined(__x86_64__)

#include <cpuid.h>

bool er_has_wide(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, AVX2 = 1 << 5 };
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || ~c & (FMA | OSXSAVE | AVX)) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* does the system save the registers? */
    return (low & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & AVX2);
}

#else

#include <sys/auxv.h>

bool er_has_wide(void) {
    enum { DOT_PRODUCT = 1 << 20 }; /* HWCAP_ASIMDDP */
    return getauxval(AT_HWCAP) & DOT_PRODUCT;
}

#endif
#endif
typedef int er_wide_c;
