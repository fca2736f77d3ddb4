/* One inference of a library that is linked with this program: when it was done, and in how many
 * MB. The kernel's own figure for a child counts what its parent had before it was this program. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tvm_eff.h"

static double peak_mb(void) {
  char line[256];
  long kilobytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "VmHWM: %ld", &kilobytes) == 1) break;
  }
  return (double)kilobytes * 1024 / 1e6;
}

int main(void) {
  const tvm_eff_library *net = tvm_eff_this_library();
  tvm_eff_model *model;
  if (net->create(NULL, &model) != TVM_EFF_OK) {
    fprintf(stderr, "%s\n", net->last_error());
    return 1;
  }
  const void *inputs[] = {calloc(1, net->inputs[0].bytes)};
  void *outputs[] = {malloc(net->outputs[0].bytes)};
  if (inputs[0] == NULL || outputs[0] == NULL || net->run(model, inputs, outputs) != TVM_EFF_OK) {
    fprintf(stderr, "%s\n", net->last_error());
    return 1;
  }
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("%ld.%09ld %f\n", (long)now.tv_sec, now.tv_nsec, peak_mb());
  return 0;
}
