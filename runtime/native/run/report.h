/* What was found, for people and for programs. */
#ifndef TVM_EFF_RUN_REPORT_H
#define TVM_EFF_RUN_REPORT_H

#include "benchmark.h"
#include "machine.h"
#include "options.h"

struct report {
  const tvm_eff_library *library;
  int threads, core_count;
  char cores[256];
  double load_seconds, first_seconds; /* of opening and creating it; of the first inference */
  double largest_error, allowed;
  struct timing timing; /* of no inference if it is only checked */
  long peak_memory;
  machine_state before, after;
  const tvm_eff_profile *profile; /* NULL if that is not asked for */
};

void report_print(const struct report *report);
void report_print_json(const struct report *report);

#endif
