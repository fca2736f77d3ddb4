#define _GNU_SOURCE
#include "benchmark.h"

#include <stdlib.h>
#include <time.h>

#include "failure.h"

#define BUDGET_SECONDS 60.0
#define MOST_PROFILED 20

double seconds_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int by_seconds(const void *one, const void *other) {
  double first = *(const double *)one, second = *(const double *)other;
  return (first > second) - (first < second);
}

int time_inferences(const tvm_eff_library *library, tvm_eff_model *model,
                    const struct golden *golden, int warm_up, int repeat, struct timing *found) {
  double begun = seconds_now();
  *found = (struct timing){calloc((size_t)repeat, sizeof(double)), 0};
  if (found->seconds == NULL) return fail(FOUND_WRONG, "there is no memory for %d times", repeat);
  for (int run = -warm_up; run < repeat; ++run) {
    double before = seconds_now();
    /* At least one is timed. */
    int is_late = before - begun > BUDGET_SECONDS;
    if (is_late && found->count > 0) break;
    if (is_late && run < 0) run = 0;
    if (library->run(model, golden->inputs, golden->outputs) != TVM_EFF_OK) {
      return fail(FOUND_WRONG, "%s", library->last_error());
    }
    if (run >= 0) found->seconds[found->count++] = seconds_now() - before;
  }
  qsort(found->seconds, (size_t)found->count, sizeof(double), by_seconds);
  return GOOD;
}

double timing_percentile(const struct timing *timing, double percent) {
  double at = percent / 100 * (timing->count - 1);
  int below = (int)at, above = below + 1 < timing->count ? below + 1 : below;
  double share = at - below;
  return timing->seconds[below] * (1 - share) + timing->seconds[above] * share;
}

double timing_mean(const struct timing *timing) {
  double sum = 0;
  for (int each = 0; each < timing->count; ++each) sum += timing->seconds[each];
  return sum / timing->count;
}

static int by_cost(const void *one, const void *other) {
  double first = ((const tvm_eff_profile *)one)->seconds;
  double second = ((const tvm_eff_profile *)other)->seconds;
  return (first < second) - (first > second);
}

int profile_kernels(const tvm_eff_library *library, tvm_eff_model *model,
                    const struct golden *golden, int repeat, tvm_eff_profile **found) {
  size_t count = (size_t)library->kernel_count;
  int runs = repeat < MOST_PROFILED ? repeat : MOST_PROFILED;
  tvm_eff_profile *sum = calloc(count + 1, sizeof *sum), *one = calloc(count + 1, sizeof *one);
  if (sum == NULL || one == NULL) {
    free(sum);
    free(one);
    return fail(FOUND_WRONG, "there is no memory for a profile of %zu kernels", count);
  }
  int code = TVM_EFF_OK;
  for (int run = 0; run < runs && code == TVM_EFF_OK; ++run) {
    code = library->profile(model, golden->inputs, golden->outputs, one);
    for (size_t each = 0; each < count; ++each) {
      double before = sum[each].seconds;
      sum[each] = one[each];
      sum[each].seconds = before + one[each].seconds / runs;
    }
  }
  free(one);
  *found = sum;
  if (code != TVM_EFF_OK) return fail(FOUND_WRONG, "%s", library->last_error());
  qsort(sum, count, sizeof *sum, by_cost);
  return GOOD;
}
