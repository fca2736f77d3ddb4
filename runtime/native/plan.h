/* What a generated plan tells the runtime: see tvm_eff/deploy/native/source.py. */
#ifndef TVM_EFF_PLAN_H
#define TVM_EFF_PLAN_H

#include <tvm/ffi/c_api.h>

#include "tvm_eff.h"

typedef int (*tvm_eff_kernel)(void *self, const TVMFFIAny *arguments, int32_t count,
                              TVMFFIAny *result);

enum tvm_eff_place { TVM_EFF_INPUT, TVM_EFF_OUTPUT, TVM_EFF_CONSTANT, TVM_EFF_ARENA };

typedef struct tvm_eff_planned {
  int32_t place;
  int32_t rank;
  size_t at; /* which input or output, or where among the constants or in the arena */
  const int64_t *shape;
  DLDataType dtype;
} tvm_eff_planned;

typedef struct tvm_eff_call {
  int32_t kernel; /* of the kernels below */
  int32_t count;
  const int32_t *tensors;
} tvm_eff_call;

typedef struct tvm_eff_copy {
  int32_t tensor;
  int32_t output;
  size_t bytes;
} tvm_eff_copy;

typedef struct tvm_eff_plan {
  int32_t tensor_count, call_count, copy_count, feature_count;
  int32_t at_load; /* how many calls, the first ones, make weights in the arena */
  const tvm_eff_planned *tensors;
  const tvm_eff_call *calls;
  const tvm_eff_copy *copies;
  const tvm_eff_kernel *kernels;
  const char *const *kernel_names;
  const char *const *kernel_modules;
  const char *weights;
  size_t shared_workspace; /* bytes of the calling thread's, beside those of any thread */
  size_t thread_workspace;
  const DLDataType *output_dtypes;
  const char *const *features; /* as /proc/cpuinfo calls them */
} tvm_eff_plan;

int tvm_eff_model_create(const tvm_eff_options *options, tvm_eff_model **created);
int tvm_eff_model_run(tvm_eff_model *model, const void *const *inputs, void *const *outputs);
int tvm_eff_model_profile(tvm_eff_model *model, const void *const *inputs, void *const *outputs,
                          tvm_eff_profile *kernels);
int32_t tvm_eff_model_threads(const tvm_eff_model *model);
void tvm_eff_model_destroy(tvm_eff_model *model);
const char *tvm_eff_model_last_error(void);

extern const tvm_eff_plan tvm_eff_the_plan;
extern const tvm_eff_library tvm_eff_the_library;

#endif
