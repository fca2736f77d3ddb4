/* Functions with TVM's calling convention that behave in ways compiled code should not. */
#include <stdint.h>
#include <stdlib.h>

#define FUNCTION(name)                                                              \
  __attribute__((visibility("default"))) int __tvm_ffi_##name(void *self, const void *args, \
                                                              int32_t count, void *result)

FUNCTION(crash) { __builtin_trap(); }

FUNCTION(leave) { exit(0); }

FUNCTION(hang) {
  for (volatile int i = 0;; i = 0) {
  }
}

FUNCTION(nothing) { return 0; }

/* Address space alone: nothing is written, so that it costs the machine nothing. */
static void *volatile taken;

FUNCTION(exhaust) {
  for (int gigabytes = 0; gigabytes < 4096; ++gigabytes) {
    taken = malloc(1L << 30);
    if (taken == NULL) abort();
  }
  return 0;
}

static int spin(long rounds) {
  for (volatile long i = 0; i < rounds; ++i) {
  }
  return 0;
}

FUNCTION(spin1) { return spin(1000000); }
FUNCTION(spin2) { return spin(2000000); }
