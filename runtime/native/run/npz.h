/* The golden inputs and outputs: a zip of numpy's arrays, stored as they are, as numpy.savez writes
 * it. Anything else is refused. */
#ifndef TVM_EFF_RUN_NPZ_H
#define TVM_EFF_RUN_NPZ_H

#include <stdio.h>

#include "tvm_eff.h"

/* Read an array that looks like `wanted`, whatever its name, into memory of its own, which lies at
 * a multiple of 64 bytes. `what` names the file in messages. Returns an exit code. */
int npz_read(FILE *file, const char *what, const char *array, const tvm_eff_tensor *wanted,
             void **data);

#endif
