/* A loop over a tile of ROWS x COLUMNS vectors that are summed in registers, if there are enough. */
#include <arm_neon.h>

void tile(const float *a, const float *b, float *out, long depth) {
  float32x4_t sums[ROWS][COLUMNS] = {0};
  for (long k = 0; k < depth; ++k) {
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
      for (int j = 0; j < COLUMNS; ++j)
        sums[i][j] = vfmaq_n_f32(sums[i][j], vld1q_f32(b + 4 * (k * COLUMNS + j)), a[k * ROWS + i]);
  }
  for (int i = 0; i < ROWS * COLUMNS; ++i) vst1q_f32(out + 4 * i, sums[i / COLUMNS][i % COLUMNS]);
}
