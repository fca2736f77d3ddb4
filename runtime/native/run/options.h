/* The command line. */
#ifndef TVM_EFF_RUN_OPTIONS_H
#define TVM_EFF_RUN_OPTIONS_H

#include <stdint.h>

#define MOST_CORES 1024

struct options {
  const char *folder; /* NULL if none is given */
  int threads;        /* 0: one for each core that may be used */
  int32_t cores[MOST_CORES];
  int core_count;
  int repeat, warm_up;
  int profile, json, check_only, help;
};

/* Returns an exit code. */
int options_read(int count, char **words, struct options *read);

#endif
