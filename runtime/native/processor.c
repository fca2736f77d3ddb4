#include "processor.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };

/* The leaf, its sub-leaf, register and bit of CPUID, and what of XCR0 the system must save:
 * Intel's Software Developer's Manual, volume 2A, CPUID; volume 1, section 13.2. */
static const struct feature {
  const char *name;
  uint32_t leaf, part;
  int word, bit;
  uint32_t saved;
} known[] = {
    {"sse2", 1, 0, EDX, 26, 0},          {"fma", 1, 0, ECX, 12, 0x6},
    {"pni", 1, 0, ECX, 0, 0},            {"ssse3", 1, 0, ECX, 9, 0},
    {"sse4_1", 1, 0, ECX, 19, 0},        {"sse4_2", 1, 0, ECX, 20, 0},
    {"popcnt", 1, 0, ECX, 23, 0},
    {"avx", 1, 0, ECX, 28, 0x6},         {"f16c", 1, 0, ECX, 29, 0x6},
    {"bmi2", 7, 0, EBX, 8, 0},           {"avx2", 7, 0, EBX, 5, 0x6},
    {"avx512f", 7, 0, EBX, 16, 0xe6},    {"avx512dq", 7, 0, EBX, 17, 0xe6},
    {"avx512cd", 7, 0, EBX, 28, 0xe6},   {"avx512bw", 7, 0, EBX, 30, 0xe6},
    {"avx512vl", 7, 0, EBX, 31, 0xe6},   {"avx512_vnni", 7, 0, ECX, 11, 0xe6},
    {"avx512_bf16", 7, 1, EAX, 5, 0xe6}, {"avx_vnni", 7, 1, EAX, 4, 0x6},
    {"amx_tile", 7, 0, EDX, 24, 0x60000}, {"amx_int8", 7, 0, EDX, 25, 0x60000},
};

static uint32_t saved_by_the_system(void) {
  uint32_t words[4];
  if (!__get_cpuid(1, &words[EAX], &words[EBX], &words[ECX], &words[EDX])) return 0;
  if ((words[ECX] >> 27 & 1) == 0) return 0;
  uint32_t low, high;
  __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static int has(const struct feature *feature) {
  uint32_t words[4];
  if (!__get_cpuid_count(feature->leaf, feature->part, &words[EAX], &words[EBX], &words[ECX],
                         &words[EDX])) {
    return 0;
  }
  int present = words[feature->word] >> feature->bit & 1;
  return present && (saved_by_the_system() & feature->saved) == feature->saved;
}

#elif defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
#include <sys/auxv.h>

/* The word, AT_HWCAP or AT_HWCAP2, and its bit: Linux, arch/arm64/include/uapi/asm/hwcap.h and
 * arch/arm/include/uapi/asm/hwcap.h. */
static const struct feature {
  const char *name;
  unsigned long word;
  int bit;
} known[] = {
#ifdef __aarch64__
    {"asimd", AT_HWCAP, 1},     {"atomics", AT_HWCAP, 8}, {"asimdhp", AT_HWCAP, 10},
    {"asimdrdm", AT_HWCAP, 12}, {"asimddp", AT_HWCAP, 20}, {"sve", AT_HWCAP, 22},
    {"sve2", AT_HWCAP2, 1},     {"i8mm", AT_HWCAP2, 13},  {"bf16", AT_HWCAP2, 14},
#else
    {"neon", AT_HWCAP, 12},
    {"vfpv4", AT_HWCAP, 16},
#endif
};

static int has(const struct feature *feature) {
  return getauxval(feature->word) >> feature->bit & 1;
}

#else

static const struct feature {
  const char *name;
} known[] = {{""}};

static int has(const struct feature *feature) {
  (void)feature;
  return 0;
}

#endif

int tvm_eff_has_feature(const char *name) {
  for (size_t each = 0; each < sizeof known / sizeof *known; ++each) {
    if (strcmp(known[each].name, name) == 0) return has(&known[each]);
  }
  return 0;
}
