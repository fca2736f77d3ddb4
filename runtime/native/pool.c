#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_LINE 64
/* Some tens of microseconds: longer than from one kernel to the next, shorter than a frame. */
#define SPINS 4000

typedef struct worker {
  tvm_eff_pool *pool;
  int number;
  pthread_t thread;
} worker;

struct tvm_eff_pool {
  _Alignas(CACHE_LINE) atomic_uint round;
  _Alignas(CACHE_LINE) atomic_int running;
  _Alignas(CACHE_LINE) atomic_int sleepers;
  atomic_int caller_sleeps, failed, stopping;
  tvm_eff_task task;
  void *data;
  int tasks;

  int threads, started;
  pid_t process;
  pthread_mutex_t mutex;
  pthread_cond_t next_round, finished;
  tvm_eff_workspace *workspaces;
  char *memory;
  int32_t *cores;
  int core_count;
  worker *workers;
};

static _Thread_local tvm_eff_pool *current;
static _Thread_local tvm_eff_workspace *workspace;

static void relax_processor(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ __volatile__("yield");
#endif
}

int tvm_eff_usable_cores(void) {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  long there_are = sysconf(_SC_NPROCESSORS_ONLN);
  return there_are < 1 ? 1 : (int)there_are;
}

int tvm_eff_may_use(int core) {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    return core >= 0 && core < CPU_SETSIZE && CPU_ISSET(core, &set);
  }
#endif
  return core >= 0;
}

static void share(tvm_eff_pool *pool, int number, int tasks) {
  tvm_eff_parallel parallel = {NULL, tasks};
  for (int each = number; each < tasks; each += pool->threads) {
    if (pool->task(each, &parallel, pool->data) != 0) atomic_store(&pool->failed, 1);
  }
}

static void wait_for_round(tvm_eff_pool *pool, unsigned seen) {
  for (int spin = 0; spin < SPINS; ++spin) {
    if (atomic_load_explicit(&pool->round, memory_order_acquire) != seen) return;
    relax_processor();
  }
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->sleepers, 1);
  while (atomic_load(&pool->round) == seen) pthread_cond_wait(&pool->next_round, &pool->mutex);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *argument) {
  worker *self = argument;
  tvm_eff_pool *pool = self->pool;
  workspace = &pool->workspaces[self->number];
  for (unsigned seen = 0;; ++seen) {
    wait_for_round(pool, seen);
    if (atomic_load(&pool->stopping)) return NULL;
    share(pool, self->number, pool->tasks);
    if (atomic_fetch_sub(&pool->running, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
      pthread_mutex_lock(&pool->mutex);
      pthread_cond_signal(&pool->finished);
      pthread_mutex_unlock(&pool->mutex);
    }
  }
}

static void begin_round(tvm_eff_pool *pool) {
  atomic_fetch_add(&pool->round, 1);
  if (atomic_load(&pool->sleepers) == 0) return;
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->next_round);
  pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_workers(tvm_eff_pool *pool) {
  for (int spin = 0; spin < SPINS; ++spin) {
    if (atomic_load_explicit(&pool->running, memory_order_acquire) == 0) return;
    relax_processor();
  }
  pthread_mutex_lock(&pool->mutex);
  atomic_store(&pool->caller_sleeps, 1);
  while (atomic_load(&pool->running) != 0) pthread_cond_wait(&pool->finished, &pool->mutex);
  atomic_store(&pool->caller_sleeps, 0);
  pthread_mutex_unlock(&pool->mutex);
}

static void *aligned(size_t bytes) {
  void *found = NULL;
  return posix_memalign(&found, CACHE_LINE, bytes == 0 ? CACHE_LINE : bytes) == 0 ? found : NULL;
}

static int alone(tvm_eff_task task, void *data, int tasks) {
  tvm_eff_parallel parallel = {NULL, tasks == 0 ? 1 : tasks};
  int failed = 0;
  for (int each = 0; each < parallel.tasks; ++each) failed |= task(each, &parallel, data);
  return failed == 0 ? 0 : -1;
}

static int launch(tvm_eff_task task, void *data, int tasks) {
  tvm_eff_pool *pool = current;
  /* A parallel loop within one. */
  if (pool == NULL) return alone(task, data, tasks);
  if (tasks == 0) tasks = pool->threads;
  pool->task = task;
  pool->data = data;
  if (pool->threads == 1 || tasks == 1) {
    share(pool, 0, tasks);
  } else {
    pool->tasks = tasks;
    atomic_store(&pool->running, pool->threads - 1);
    begin_round(pool);
    share(pool, 0, tasks);
    wait_for_workers(pool);
  }
  return atomic_exchange(&pool->failed, 0) == 0 ? 0 : -1;
}

static void *take(int device_type, int device, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device, (void)code, (void)bits;
  uint64_t rounded = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  /* A kernel that is called by its name, without a model, as tvm-eff bisect does. */
  if (workspace == NULL) return aligned(rounded);
  if ((uint64_t)(workspace->end - workspace->next) < rounded) return NULL;
  char *taken = workspace->next;
  workspace->next += rounded;
  return taken;
}

static int give_back(int device_type, int device, void *taken) {
  (void)device_type, (void)device;
  /* Kernels give back what they took last. */
  if (workspace == NULL) free(taken);
  else workspace->next = taken;
  return 0;
}

/* What the kernels call, in the place of the variables that TVM's runtime would fill. */
int (*__TVMBackendParallelLaunch)(tvm_eff_task, void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = give_back;

static void pin(pthread_t thread, const tvm_eff_pool *pool, int number) {
#ifdef __linux__
  if (pool->core_count == 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(pool->cores[number % pool->core_count], &set);
  pthread_setaffinity_np(thread, sizeof set, &set);
#else
  (void)thread, (void)pool, (void)number;
#endif
}

static int start(tvm_eff_pool *pool) {
  pool->process = getpid();
  atomic_store(&pool->round, 0);
  atomic_store(&pool->running, 0);
  atomic_store(&pool->sleepers, 0);
  atomic_store(&pool->caller_sleeps, 0);
  atomic_store(&pool->stopping, 0);
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->next_round, NULL);
  pthread_cond_init(&pool->finished, NULL);
  for (pool->started = 1; pool->started < pool->threads; ++pool->started) {
    worker *each = &pool->workers[pool->started];
    each->pool = pool;
    each->number = pool->started;
    if (pthread_create(&each->thread, NULL, work, each) != 0) return 0;
    pin(each->thread, pool, pool->started);
  }
  return 1;
}

static void stop(tvm_eff_pool *pool) {
  /* Another process's threads are not this one's to end, nor to wait for. */
  if (pool->process != getpid()) return;
  atomic_store(&pool->stopping, 1);
  begin_round(pool);
  for (int each = 1; each < pool->started; ++each) pthread_join(pool->workers[each].thread, NULL);
  pthread_mutex_destroy(&pool->mutex);
  pthread_cond_destroy(&pool->next_round);
  pthread_cond_destroy(&pool->finished);
}

static int lay_out(tvm_eff_pool *pool, size_t shared, size_t own) {
  pool->memory = aligned(shared + own * (size_t)pool->threads);
  pool->workspaces = calloc((size_t)pool->threads, sizeof *pool->workspaces);
  pool->workers = calloc((size_t)pool->threads, sizeof *pool->workers);
  if (!pool->memory || !pool->workspaces || !pool->workers) return 0;
  char *next = pool->memory;
  for (int each = 0; each < pool->threads; ++each) {
    char *end = next + own + (each == 0 ? shared : 0);
    pool->workspaces[each] = (tvm_eff_workspace){next, next, end};
    next = end;
  }
  return 1;
}

static void release(tvm_eff_pool *pool) {
  free(pool->workers);
  free(pool->workspaces);
  free(pool->memory);
  free(pool->cores);
  free(pool);
}

tvm_eff_pool *tvm_eff_pool_create(int threads, const int32_t *cores, int core_count,
                                  size_t shared_workspace, size_t thread_workspace) {
  tvm_eff_pool *pool = aligned(sizeof *pool);
  if (pool == NULL) return NULL;
  memset(pool, 0, sizeof *pool);
  pool->threads = threads;
  if (core_count > 0) {
    pool->cores = calloc((size_t)core_count, sizeof *pool->cores);
    if (pool->cores == NULL) {
      release(pool);
      return NULL;
    }
    memcpy(pool->cores, cores, (size_t)core_count * sizeof *cores);
    pool->core_count = core_count;
  }
  if (!lay_out(pool, shared_workspace, thread_workspace)) {
    release(pool);
    return NULL;
  }
  if (!start(pool)) {
    stop(pool);
    release(pool);
    return NULL;
  }
  return pool;
}

void tvm_eff_pool_destroy(tvm_eff_pool *pool) {
  stop(pool);
  release(pool);
}

int tvm_eff_pool_threads(const tvm_eff_pool *pool) { return pool->threads; }

int tvm_eff_pool_enter(tvm_eff_pool *pool) {
  if (pool->process != getpid() && !start(pool)) {
    stop(pool);
    pool->process = 0;
    return 0;
  }
  current = pool;
  workspace = &pool->workspaces[0];
  workspace->next = workspace->begin;
  return 1;
}

void tvm_eff_pool_leave(void) {
  current = NULL;
  workspace = NULL;
}
