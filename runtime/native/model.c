#define _GNU_SOURCE
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "processor.h"
#include "plan.h"
#include "pool.h"

#define ALIGNMENT 64

static _Thread_local char message[512] = "nothing has failed";

struct tvm_eff_model {
  tvm_eff_pool *pool;
  char *arena;
  DLTensor *tensors;
  TVMFFIAny *arguments; /* of all calls, one after the other */
  TVMFFIAny *run_arguments; /* those of an inference's */
  int refuse_nan;
  atomic_flag busy;
};

static const tvm_eff_plan *const plan = &tvm_eff_the_plan;
static const tvm_eff_library *const library = &tvm_eff_the_library;

static int fail(int code, const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  return code;
}

const char *tvm_eff_model_last_error(void) { return message; }

/* What kernels call that find their arguments wrong. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  size_t used = (size_t)snprintf(message, sizeof message, "%s: ", kind);
  for (int32_t each = 0; each < count && used < sizeof message; ++each) {
    used += (size_t)snprintf(message + used, sizeof message - used, "%s", parts[each]);
  }
}

static int require_features(void) {
  for (int32_t each = 0; each < plan->feature_count; ++each) {
    if (tvm_eff_has_feature(plan->features[each])) continue;
    return fail(TVM_EFF_WRONG_MACHINE,
                "%s was built for %s, and this processor lacks %s: build it for this machine",
                library->name, library->built_for, plan->features[each]);
  }
  return TVM_EFF_OK;
}

static void *aligned(size_t bytes) {
  void *found = NULL;
  return posix_memalign(&found, ALIGNMENT, bytes == 0 ? ALIGNMENT : bytes) == 0 ? found : NULL;
}

void tvm_eff_model_destroy(tvm_eff_model *model) {
  if (model == NULL) return;
  if (model->pool != NULL) tvm_eff_pool_destroy(model->pool);
  free(model->arena);
  free(model->tensors);
  free(model->arguments);
  free(model);
}

static void *memory_of(const tvm_eff_model *model, const tvm_eff_planned *tensor) {
  if (tensor->place == TVM_EFF_ARENA) return model->arena + tensor->at;
  if (tensor->place == TVM_EFF_CONSTANT) return (void *)(plan->weights + tensor->at);
  return NULL;
}

static int bind_tensors(tvm_eff_model *model) {
  size_t count = 0;
  for (int32_t each = 0; each < plan->call_count; ++each) count += (size_t)plan->calls[each].count;
  model->arena = aligned(library->arena_bytes);
  model->tensors = calloc((size_t)plan->tensor_count + 1, sizeof *model->tensors);
  model->arguments = calloc(count + 1, sizeof *model->arguments);
  if (!model->arena || !model->tensors || !model->arguments) return 0;
  for (int32_t each = 0; each < plan->tensor_count; ++each) {
    const tvm_eff_planned *planned = &plan->tensors[each];
    model->tensors[each] = (DLTensor){.data = memory_of(model, planned),
                                      .device = {kDLCPU, 0},
                                      .ndim = planned->rank,
                                      .dtype = planned->dtype,
                                      .shape = (int64_t *)planned->shape};
  }
  TVMFFIAny *next = model->arguments;
  for (int32_t each = 0; each < plan->call_count; ++each) {
    if (each == plan->at_load) model->run_arguments = next;
    for (int32_t argument = 0; argument < plan->calls[each].count; ++argument, ++next) {
      next->type_index = kTVMFFIDLTensorPtr;
      next->v_ptr = &model->tensors[plan->calls[each].tensors[argument]];
    }
  }
  return 1;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The calls from `first` to before `end`, whose arguments begin at `next`. */
static int call_kernels(const TVMFFIAny *next, int32_t first, int32_t end,
                        tvm_eff_profile *profile) {
  for (int32_t each = first; each < end; ++each) {
    const tvm_eff_call *call = &plan->calls[each];
    TVMFFIAny nothing = {0};
    double begun = profile == NULL ? 0 : now();
    if (plan->kernels[call->kernel](NULL, next, call->count, &nothing) != 0) {
      return TVM_EFF_KERNEL_FAILED;
    }
    if (profile != NULL) {
      profile[call->kernel].seconds += now() - begun;
      profile[call->kernel].calls += 1;
    }
    next += call->count;
  }
  return TVM_EFF_OK;
}

static int make_weights(tvm_eff_model *model) {
  if (plan->at_load == 0) return TVM_EFF_OK;
  tvm_eff_pool_enter(model->pool);
  int code = call_kernels(model->arguments, 0, plan->at_load, NULL);
  tvm_eff_pool_leave();
  return code;
}

static int threads_of(const tvm_eff_options *options, int *threads) {
  int usable = tvm_eff_usable_cores();
  int wanted = options == NULL ? 0 : options->threads;
  /* More than there are cores would only wait for each other. */
  if (wanted < 0 || wanted > usable) {
    return fail(TVM_EFF_BAD_ARGUMENT,
                "%d threads are asked for, and this process may use %d cores; give 0 for all",
                wanted, usable);
  }
  *threads = wanted == 0 ? usable : wanted;
  return TVM_EFF_OK;
}

static int check_cores(const tvm_eff_options *options) {
  int count = options == NULL || options->cores == NULL ? 0 : options->core_count;
  for (int each = 0; each < count; ++each) {
    if (tvm_eff_may_use(options->cores[each])) continue;
    return fail(TVM_EFF_BAD_ARGUMENT, "this process may not use core %d; taskset -p shows which",
                options->cores[each]);
  }
  return TVM_EFF_OK;
}

int tvm_eff_model_create(const tvm_eff_options *options, tvm_eff_model **created) {
  if (created == NULL) return fail(TVM_EFF_BAD_ARGUMENT, "there is nowhere to put the model");
  *created = NULL;
  if (options != NULL && options->size < sizeof *options) {
    return fail(TVM_EFF_BAD_ARGUMENT, "the options have %zu bytes; set size to sizeof of them",
                options->size);
  }
  int threads, code = threads_of(options, &threads);
  if (code == TVM_EFF_OK) code = check_cores(options);
  if (code == TVM_EFF_OK) code = require_features();
  if (code != TVM_EFF_OK) return code;
  int core_count = options == NULL || options->cores == NULL ? 0 : options->core_count;
  tvm_eff_model *model = calloc(1, sizeof *model);
  if (model == NULL || !bind_tensors(model)) {
    tvm_eff_model_destroy(model);
    return fail(TVM_EFF_NO_MEMORY, "there is no memory for an arena of %zu bytes",
                library->arena_bytes);
  }
  model->pool = tvm_eff_pool_create(threads, core_count == 0 ? NULL : options->cores, core_count,
                                    plan->shared_workspace, plan->thread_workspace);
  if (model->pool == NULL) {
    tvm_eff_model_destroy(model);
    return fail(TVM_EFF_NO_MEMORY, "%d threads cannot be started", threads);
  }
  code = make_weights(model);
  if (code != TVM_EFF_OK) {
    tvm_eff_model_destroy(model);
    return code;
  }
  model->refuse_nan = options != NULL && options->refuse_nan;
  atomic_flag_clear(&model->busy);
  *created = model;
  return TVM_EFF_OK;
}

static int check(const tvm_eff_tensor *infos, int32_t count, const void *const *given,
                 const char *what) {
  if (given == NULL && count > 0) return fail(TVM_EFF_BAD_ARGUMENT, "there are no %ss", what);
  for (int32_t each = 0; each < count; ++each) {
    if (given[each] == NULL) {
      return fail(TVM_EFF_BAD_ARGUMENT, "the %s %s is NULL", what, infos[each].name);
    }
    if ((uintptr_t)given[each] % infos[each].alignment != 0) {
      return fail(TVM_EFF_BAD_ARGUMENT, "the %s %s lies at no multiple of %zu bytes", what,
                  infos[each].name, infos[each].alignment);
    }
  }
  return TVM_EFF_OK;
}

static int has_nan(const tvm_eff_tensor *tensor, const void *data) {
  if (strcmp(tensor->dtype, "float32") == 0) {
    const float *values = data;
    for (size_t each = 0; each < tensor->bytes / 4; ++each) {
      if (values[each] != values[each]) return 1;
    }
  } else if (strcmp(tensor->dtype, "float64") == 0) {
    const double *values = data;
    for (size_t each = 0; each < tensor->bytes / 8; ++each) {
      if (values[each] != values[each]) return 1;
    }
  } else if (strcmp(tensor->dtype, "float16") == 0) {
    const uint16_t *bits = data;
    for (size_t each = 0; each < tensor->bytes / 2; ++each) {
      if ((bits[each] & 0x7fff) > 0x7c00) return 1;
    }
  }
  return 0;
}

static int check_nan(const void *const *inputs) {
  for (int32_t each = 0; each < library->input_count; ++each) {
    if (has_nan(&library->inputs[each], inputs[each])) {
      return fail(TVM_EFF_BAD_ARGUMENT, "the input %s has a NaN, of which the network would make "
                  "a number", library->inputs[each].name);
    }
  }
  return TVM_EFF_OK;
}

static void lend(tvm_eff_model *model, const void *const *inputs, void *const *outputs) {
  for (int32_t each = 0; each < plan->tensor_count; ++each) {
    const tvm_eff_planned *planned = &plan->tensors[each];
    if (planned->place == TVM_EFF_INPUT) model->tensors[each].data = (void *)inputs[planned->at];
    if (planned->place == TVM_EFF_OUTPUT) model->tensors[each].data = outputs[planned->at];
  }
}

static int profiled(tvm_eff_model *model, const void *const *inputs, void *const *outputs,
                    tvm_eff_profile *profile) {
  if (model == NULL) return fail(TVM_EFF_BAD_ARGUMENT, "there is no model; create one");
  int code = check(library->inputs, library->input_count, inputs, "input");
  if (code == TVM_EFF_OK) {
    code = check(library->outputs, library->output_count, (const void *const *)outputs, "output");
  }
  if (code == TVM_EFF_OK && model->refuse_nan) code = check_nan(inputs);
  if (code != TVM_EFF_OK) return code;
  if (atomic_flag_test_and_set(&model->busy)) {
    return fail(TVM_EFF_BUSY, "another thread runs this model; create one for each thread");
  }
  if (!tvm_eff_pool_enter(model->pool)) {
    atomic_flag_clear(&model->busy);
    return fail(TVM_EFF_NO_MEMORY, "threads cannot be started in this process");
  }
  lend(model, inputs, outputs);
  code = call_kernels(model->run_arguments, plan->at_load, plan->call_count, profile);
  for (int32_t each = 0; each < plan->copy_count && code == TVM_EFF_OK; ++each) {
    const tvm_eff_copy *copy = &plan->copies[each];
    memmove(outputs[copy->output], model->tensors[copy->tensor].data, copy->bytes);
  }
  tvm_eff_pool_leave();
  atomic_flag_clear(&model->busy);
  return code;
}

int tvm_eff_model_run(tvm_eff_model *model, const void *const *inputs, void *const *outputs) {
  return profiled(model, inputs, outputs, NULL);
}

int tvm_eff_model_profile(tvm_eff_model *model, const void *const *inputs, void *const *outputs,
                   tvm_eff_profile *kernels) {
  if (kernels == NULL) return fail(TVM_EFF_BAD_ARGUMENT, "there is nowhere to put the profile");
  for (int32_t each = 0; each < library->kernel_count; ++each) {
    kernels[each] = (tvm_eff_profile){plan->kernel_names[each], plan->kernel_modules[each], 0, 0};
  }
  return profiled(model, inputs, outputs, kernels);
}

int32_t tvm_eff_model_threads(const tvm_eff_model *model) { return tvm_eff_pool_threads(model->pool); }
