/* What is run: a bundle's library, or the one that this program is linked with. */
#ifndef TVM_EFF_RUN_NETWORK_H
#define TVM_EFF_RUN_NETWORK_H

#include <stdio.h>

#include "tvm_eff.h"

struct network {
  const tvm_eff_library *library;
  FILE *golden;
  const char *golden_name; /* in messages */
  double seconds;          /* that opening the library took, its checksums aside */
};

/* The command line up to its options, for --help. */
extern const char *const network_usage;

/* `folder` is NULL where none was given. Returns an exit code. */
int network_open(const char *folder, struct network *opened);

#endif
