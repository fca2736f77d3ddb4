/* A model's threads: they spin for a while for the next kernel, then sleep. */
#ifndef TVM_EFF_POOL_H
#define TVM_EFF_POOL_H

#include <stddef.h>
#include <stdint.h>

typedef struct tvm_eff_parallel {
  void *sync;
  int32_t tasks;
} tvm_eff_parallel;

/* A kernel's parallel loop, as TVM's code generator makes it. */
typedef int (*tvm_eff_task)(int number, tvm_eff_parallel *parallel, void *data);

typedef struct tvm_eff_pool tvm_eff_pool;

/* The memory that kernels take temporaries from, one for each thread. */
typedef struct tvm_eff_workspace {
  char *begin, *next, *end;
} tvm_eff_workspace;

/* NULL if there is no memory, or no thread. `cores` may be NULL. */
tvm_eff_pool *tvm_eff_pool_create(int threads, const int32_t *cores, int core_count,
                                  size_t shared_workspace, size_t thread_workspace);
void tvm_eff_pool_destroy(tvm_eff_pool *pool);
int tvm_eff_pool_threads(const tvm_eff_pool *pool);

/* Have the kernels that this thread calls run on the pool; 0 if a fork left it without threads. */
int tvm_eff_pool_enter(tvm_eff_pool *pool);
void tvm_eff_pool_leave(void);

/* How many cores this process may use, and whether it may use that one. */
int tvm_eff_usable_cores(void);
int tvm_eff_may_use(int core);

#endif
