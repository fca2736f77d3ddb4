/* The golden inputs, what they should give, and whether they do. */
#ifndef TVM_EFF_RUN_CHECK_H
#define TVM_EFF_RUN_CHECK_H

#include "network.h"

struct golden {
  const void **inputs;
  void **outputs, **expected;
  double *allowed; /* the largest error of each output */
  unsigned char *same_class;
};

/* Returns an exit code. What is read lives as long as the process. */
int golden_load(const struct network *network, struct golden *loaded);

/* Compare the outputs with what is expected; returns an exit code, and the largest error. */
int golden_check(const struct network *network, const struct golden *golden, double *largest);

#endif
