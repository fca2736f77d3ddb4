/* The C interface of a library that tvm_eff built: C99 and C++, no other header of ours.
 *
 * A library holds one network. It is linked with a program,
 *
 *     const tvm_eff_library *net = tvm_eff_this_library();
 *
 * or opened by its path: tvm_eff_open in tvm_eff_open.h. Then
 *
 *     tvm_eff_model *model;
 *     int code = net->create(NULL, &model);
 *     const void *inputs[] = {image};
 *     void *outputs[] = {scores};
 *     code = net->run(model, inputs, outputs);
 *     if (code != TVM_EFF_OK) fprintf(stderr, "%s\n", net->last_error());
 *     net->destroy(model);
 *
 * Every function that can fail returns a code and leaves a message for the calling thread.
 * Nothing is allocated after create. Models are independent: each has an arena and threads of its
 * own, and different threads may run different ones at once. One model runs one call at a time.
 */
#ifndef TVM_EFF_H
#define TVM_EFF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface; a library of a newer one is refused by its reader. */
#define TVM_EFF_ABI 1u

enum {
  TVM_EFF_OK = 0,
  TVM_EFF_NO_MEMORY = 1,     /* there is no room for the arena or the threads' stacks */
  TVM_EFF_BAD_ARGUMENT = 2,  /* a null or misaligned pointer, threads, a core, a NaN if refused */
  TVM_EFF_WRONG_MACHINE = 3, /* the processor lacks a feature that the code uses */
  TVM_EFF_BUSY = 4,          /* another thread runs this model */
  TVM_EFF_KERNEL_FAILED = 5, /* a kernel refused its arguments: the library is damaged */
  TVM_EFF_NOT_A_LIBRARY = 6  /* a file that is no library of ours, or of a newer interface */
};

typedef struct tvm_eff_tensor {
  const char *name;
  const char *dtype; /* numpy's name, such as "float32" */
  int32_t rank;
  const int64_t *shape;
  size_t bytes;
  size_t alignment; /* of the caller's memory: that of an element */
} tvm_eff_tensor;

typedef struct tvm_eff_options {
  size_t size;          /* sizeof(tvm_eff_options): later versions have more */
  int32_t threads;      /* 0: one for each core that the process may use; more are refused */
  const int32_t *cores; /* where the threads but the caller's run; NULL: anywhere */
  int32_t core_count;
  int32_t refuse_nan; /* whether a NaN in an input is an error; networks make numbers of some */
} tvm_eff_options;

/* The time that a kernel took, of all its calls in one run. */
typedef struct tvm_eff_profile {
  const char *kernel;
  const char *modules; /* PyTorch's modules whose parameters it takes; may be empty */
  int32_t calls;
  double seconds;
} tvm_eff_profile;

typedef struct tvm_eff_model tvm_eff_model;

typedef struct tvm_eff_library {
  uint32_t abi;
  const char *name;
  const char *built_for; /* the target */
  int32_t input_count;
  const tvm_eff_tensor *inputs;
  int32_t output_count;
  const tvm_eff_tensor *outputs;
  size_t arena_bytes;
  size_t weight_bytes;
  int32_t kernel_count; /* entries that profile fills */

  /* options may be NULL. */
  int (*create)(const tvm_eff_options *options, tvm_eff_model **model);
  /* The caller's tensors are read and written in place, contiguous, in order. */
  int (*run)(tvm_eff_model *model, const void *const *inputs, void *const *outputs);
  int (*profile)(tvm_eff_model *model, const void *const *inputs, void *const *outputs,
                 tvm_eff_profile *kernels);
  int32_t (*threads)(const tvm_eff_model *model);
  /* NULL is fine. */
  void (*destroy)(tvm_eff_model *model);
  /* Of this thread's last call that failed; never NULL. */
  const char *(*last_error)(void);
} tvm_eff_library;

/* The one symbol that a library exports. An archive has tvm_eff_library_NAME in its place, so that
 * one program can have several. */
const tvm_eff_library *tvm_eff_this_library(void);

#ifdef __cplusplus
}
#endif

#endif
