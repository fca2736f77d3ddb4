/* Executes a known mix of instructions, as often as its argument says. */
#include <stdlib.h>

int main(int argc, char **argv) {
  static float memory[8] __attribute__((aligned(16)));
  for (long i = 0, runs = argc > 1 ? atol(argv[1]) : 0; i < runs; ++i)
    __asm__ volatile(
        "fmla v0.4s, v1.4s, v2.4s\n"
        "fmls v3.2s, v1.2s, v2.2s\n"
        "fmla v4.4s, v1.4s, v2.s[3]\n"
        "fmla v5.2d, v1.2d, v2.d[1]\n"
        "fmls v6.4s, v1.4s, v2.s[0]\n"
        "fmla v4.8h, v1.8h, v2.8h\n"
        "fmls v6.4h, v1.4h, v2.h[7]\n"
        "sdot v4.4s, v1.16b, v2.16b\n"
        "udot v6.2s, v1.8b, v2.4b[3]\n"
        "smlal v4.8h, v1.8b, v2.8b\n"
        "umlsl2 v6.4s, v1.8h, v2.8h\n"
        "smull2 v4.8h, v1.16b, v2.16b\n"
        "smlal2 v6.4s, v1.8h, v2.h[7]\n"
        "umull v4.2d, v1.2s, v2.s[3]\n"
        "sadalp v6.4s, v4.8h\n"
        "pmull v7.8h, v1.8b, v2.8b\n"      /* no multiply-add, as the next five */
        "smull x9, w9, w9\n"
        "uaddlp v7.8h, v1.16b\n"
        "fmul v7.4s, v1.4s, v2.4s\n"
        "fadd v7.4s, v7.4s, v2.4s\n"
        "mla v16.4s, v1.4s, v2.4s\n"
        "ldr q17, [%0]\n"
        "ldp s18, s19, [%0, #8]\n"
        "ld1 {v20.4s}, [%0]\n"
        "ldrsw x9, [%0, #4]\n"
        "ldurb w9, [%0, #3]\n"
        "prfm pldl1keep, [%0]\n"          /* no load */
        "str q17, [%0]\n"
        "stp s18, s19, [%0, #8]\n"
        "sturh w9, [%0, #2]\n" ::"r"(memory)
        : "memory", "x9", "v0", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20");
  return 0;
}
