/* How far an output is from PyTorch's, as tvm_eff/tensors.py and tvm_eff/deploy/validate.py say. */
#ifndef TVM_EFF_RUN_ACCURACY_H
#define TVM_EFF_RUN_ACCURACY_H

#include "tvm_eff.h"

/* The largest difference as a fraction of the spread of what is expected; infinite where one is
 * NaN or infinite, and the other is not, or a dtype is not known. */
double relative_error(const tvm_eff_tensor *tensor, const void *actual, const void *expected);

/* The first row of class scores whose highest one is another; -1 if there is none, or the output
 * is not class scores. */
int64_t row_of_another_class(const tvm_eff_tensor *tensor, const void *actual,
                             const void *expected);

#endif
