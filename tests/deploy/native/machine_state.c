/* What the runner reads of the folder that stands for this machine's /sys. */
#include <stdio.h>

#include "machine.h"

int main(void) {
  machine_state now = machine_now();
  printf("%ld %ld %ld %s\n", now.fastest_khz, now.millidegrees, now.throttled, throttling_unit());
  return 0;
}
