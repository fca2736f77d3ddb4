/* The network as a function of TVM's: what its RPC server calls, with outputs to fill. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan.h"
#include "pool.h"

#define EXPORTED __attribute__((visibility("default")))

/* The process that loaded the library with TVM has it; others need nothing but libc. */
#ifdef __linux__
extern void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message)
    __attribute__((weak, visibility("default")));
#else
static void (*const TVMFFIErrorSetRaisedFromCStr)(const char *, const char *) = NULL;
#endif

/* TVM takes the error that was raised last for this one's, or crashes, where none is. */
static int raised(const char *message) {
  if (TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr("RuntimeError", message);
  return -1;
}

static tvm_eff_model *shared_model;
static int created;
static char not_created[512];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* As many threads as TVM's own would be, where its variable says so, but no more than cores. */
static void create_once(void) {
  const char *variable = getenv("TVM_NUM_THREADS");
  int wanted = variable == NULL ? 0 : atoi(variable), usable = tvm_eff_usable_cores();
  tvm_eff_options options = {sizeof options, wanted > usable ? usable : wanted, NULL, 0, 0};
  created = tvm_eff_the_library.create(&options, &shared_model);
  /* The message is this thread's, and others ask too. */
  if (created != TVM_EFF_OK) {
    snprintf(not_created, sizeof not_created, "%s", tvm_eff_the_library.last_error());
  }
}

static void *data_of(const TVMFFIAny *argument) {
  const DLTensor *tensor = argument->v_ptr;
  if (argument->type_index == kTVMFFITensor) {
    tensor = (const DLTensor *)((const char *)argument->v_ptr + sizeof(TVMFFIObject));
  } else if (argument->type_index != kTVMFFIDLTensorPtr) {
    return NULL;
  }
  return (char *)tensor->data + tensor->byte_offset;
}

/* An archive's has another name, so that a program can have several. */
#ifndef TVM_EFF_ENTRY
#define TVM_EFF_ENTRY tvm_eff_this_library
#endif

EXPORTED const tvm_eff_library *TVM_EFF_ENTRY(void);

EXPORTED const tvm_eff_library *TVM_EFF_ENTRY(void) { return &tvm_eff_the_library; }

/* What an output looks like: (output, what) -> the code of its dtype for -3, the bits for -2, its
 * rank for -1, and an extent for each dimension. */
EXPORTED int __tvm_ffi_tvm_eff_output(void *self, const TVMFFIAny *arguments, int32_t count,
                                      TVMFFIAny *result) {
  (void)self;
  const tvm_eff_library *library = &tvm_eff_the_library;
  if (count != 2 || arguments[0].v_int64 < 0 || arguments[0].v_int64 >= library->output_count) {
    return raised("there is no such output");
  }
  int64_t output = arguments[0].v_int64, what = arguments[1].v_int64;
  const DLDataType dtype = tvm_eff_the_plan.output_dtypes[output];
  const tvm_eff_tensor *tensor = &library->outputs[output];
  if (what < -3 || what >= tensor->rank) return raised("outputs have no such property");
  result->type_index = kTVMFFIInt;
  result->v_int64 = what == -3   ? dtype.code
                    : what == -2 ? dtype.bits
                    : what == -1 ? tensor->rank
                                 : tensor->shape[what];
  return 0;
}

EXPORTED int __tvm_ffi_tvm_eff_output_count(void *self, const TVMFFIAny *arguments, int32_t count,
                                            TVMFFIAny *result) {
  (void)self, (void)arguments, (void)count;
  result->type_index = kTVMFFIInt;
  result->v_int64 = tvm_eff_the_library.output_count;
  return 0;
}

EXPORTED int __tvm_ffi_main(void *self, const TVMFFIAny *arguments, int32_t count,
                            TVMFFIAny *result) {
  (void)self;
  const tvm_eff_library *library = &tvm_eff_the_library;
  /* C has no empty array. */
  const void *inputs[library->input_count + 1];
  void *outputs[library->output_count + 1];
  result->type_index = kTVMFFINone;
  if (count != library->input_count + library->output_count) {
    return raised("it takes all inputs, and all outputs to fill");
  }
  for (int32_t each = 0; each < count; ++each) {
    void *data = data_of(&arguments[each]);
    if (each < library->input_count) inputs[each] = data;
    else outputs[each - library->input_count] = data;
  }
  pthread_once(&once, create_once);
  if (created != TVM_EFF_OK) return raised(not_created);
  if (library->run(shared_model, inputs, outputs) == TVM_EFF_OK) return 0;
  return raised(library->last_error());
}
