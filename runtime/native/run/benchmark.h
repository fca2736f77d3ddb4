/* How long inferences take. */
#ifndef TVM_EFF_RUN_BENCHMARK_H
#define TVM_EFF_RUN_BENCHMARK_H

#include "check.h"

struct timing {
  double *seconds; /* of each inference, the shortest first */
  int count;
};

double seconds_now(void);

/* Run it `warm_up` times, then time it `repeat` times, fewer if that takes longer than a minute;
 * returns an exit code. */
int time_inferences(const tvm_eff_library *library, tvm_eff_model *model,
                    const struct golden *golden, int warm_up, int repeat, struct timing *found);

/* The time below which `percent` of the inferences lie, between two of them in proportion. */
double timing_percentile(const struct timing *timing, double percent);
double timing_mean(const struct timing *timing);

/* The kernels' times in one inference of `repeat`, the longest first; returns an exit code. */
int profile_kernels(const tvm_eff_library *library, tvm_eff_model *model,
                    const struct golden *golden, int repeat, tvm_eff_profile **found);

#endif
