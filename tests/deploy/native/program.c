/* What a user of a native library writes, and what may go wrong: says "ok", or where it is wrong. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tvm_eff.h"

#define ROUNDS 50
#define REQUIRE(condition)                                                       \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, last_error()); \
      exit(1);                                                                   \
    }                                                                            \
  } while (0)

static const tvm_eff_library *net;
static char *input, *expected;

static const char *last_error(void) { return net == NULL ? "" : net->last_error(); }

static char *read_all(const char *path, size_t bytes) {
  char *found = aligned_alloc(64, (bytes + 63) / 64 * 64);
  FILE *file = fopen(path, "rb");
  REQUIRE(file != NULL && fread(found, 1, bytes, file) == bytes);
  fclose(file);
  return found;
}

static void run_once(tvm_eff_model *model) {
  size_t bytes = net->outputs[0].bytes;
  char *output = aligned_alloc(64, (bytes + 63) / 64 * 64);
  memset(output, 0xff, bytes);
  const void *inputs[] = {input};
  void *outputs[] = {output};
  REQUIRE(net->run(model, inputs, outputs) == TVM_EFF_OK);
  REQUIRE(memcmp(output, expected, bytes) == 0);
  free(output);
}

static tvm_eff_model *created(int threads) {
  tvm_eff_options options = {sizeof options, threads, NULL, 0, 0};
  tvm_eff_model *model = NULL;
  REQUIRE(net->create(&options, &model) == TVM_EFF_OK);
  REQUIRE(model != NULL);
  return model;
}

static void misuse(void) {
  tvm_eff_model *model = created(1);
  const void *none[] = {NULL}, *odd[] = {input + 1};
  void *outputs[] = {malloc(net->outputs[0].bytes)}, *nowhere[] = {NULL};
  const void *inputs[] = {input};
  REQUIRE(net->run(NULL, inputs, outputs) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(net->run(model, NULL, outputs) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(net->run(model, none, outputs) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(strstr(last_error(), "the input x is NULL") != NULL);
  REQUIRE(net->run(model, odd, outputs) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(strstr(last_error(), "multiple of 4 bytes") != NULL);
  REQUIRE(net->run(model, inputs, nowhere) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(net->create(NULL, NULL) == TVM_EFF_BAD_ARGUMENT);
  tvm_eff_options options = {sizeof options, -1, NULL, 0, 0};
  tvm_eff_model *other;
  REQUIRE(net->create(&options, &other) == TVM_EFF_BAD_ARGUMENT && other == NULL);
  options.size = 1;
  REQUIRE(net->create(&options, &other) == TVM_EFF_BAD_ARGUMENT);
  net->destroy(NULL);
  run_once(model);
  net->destroy(model);
  free(outputs[0]);
}

static void with_nan(void) {
  size_t bytes = net->inputs[0].bytes;
  float *image = malloc(bytes);
  memcpy(image, input, bytes);
  image[bytes / sizeof *image - 1] = NAN;
  const void *inputs[] = {image};
  void *outputs[] = {malloc(net->outputs[0].bytes)};
  tvm_eff_options options = {sizeof options, 1, NULL, 0, 1};
  tvm_eff_model *careful, *other = created(1);
  REQUIRE(net->create(&options, &careful) == TVM_EFF_OK);
  run_once(careful);
  REQUIRE(net->run(careful, inputs, outputs) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(strstr(last_error(), "the input x has a NaN") != NULL);
  REQUIRE(net->run(other, inputs, outputs) == TVM_EFF_OK);
  net->destroy(careful);
  net->destroy(other);
  free(outputs[0]);
  free(image);
}

static void *run_many(void *argument) {
  tvm_eff_model *model = created(*(int *)argument);
  for (int round = 0; round < ROUNDS; ++round) run_once(model);
  net->destroy(model);
  return NULL;
}

static void several_at_once(void) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  pthread_t threads[8];
  int counts[8];
  for (int each = 0; each < 8; ++each) {
    counts[each] = each % (1 + (cores < 2 ? cores : 2));
    REQUIRE(pthread_create(&threads[each], NULL, run_many, &counts[each]) == 0);
  }
  for (int each = 0; each < 8; ++each) pthread_join(threads[each], NULL);
}

static void in_a_child(int rounds) {
  tvm_eff_model *model = created(2);
  run_once(model);
  usleep(20000); /* its threads sleep now */
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    for (int round = 0; round < rounds; ++round) run_once(model);
    net->destroy(model);
    _exit(0);
  }
  int status;
  REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  run_once(model);
  net->destroy(model);
}

/* A child that may have no thread: its run says so, each time. */
static void in_a_child_without_threads(void) {
  tvm_eff_model *model = created(2);
  run_once(model);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    struct rlimit none = {0, 0};
    const void *inputs[] = {input};
    void *outputs[] = {malloc(net->outputs[0].bytes)};
    REQUIRE(setrlimit(RLIMIT_NPROC, &none) == 0);
    if (getuid() == 0) REQUIRE(setuid(65534) == 0); /* root has no limit */
    REQUIRE(net->run(model, inputs, outputs) == TVM_EFF_NO_MEMORY);
    REQUIRE(net->run(model, inputs, outputs) == TVM_EFF_NO_MEMORY);
    REQUIRE(strstr(last_error(), "threads cannot be started") != NULL);
    net->destroy(model);
    _exit(0);
  }
  int status;
  REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  net->destroy(model);
}

static long resident_pages(void) {
  long size, resident;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2) return -1;
  fclose(file);
  return resident;
}

static void open_and_close(int rounds) {
  for (int round = 0; round < 20; ++round) net->destroy(created(2));
  long before = resident_pages();
  for (int round = 0; round < rounds; ++round) {
    tvm_eff_model *model = created(2);
    run_once(model);
    net->destroy(model);
  }
  REQUIRE(resident_pages() <= before + 64);
}

static void interrupted(int signal) { (void)signal; }

static void with_signals(void) {
  struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
  REQUIRE(signal(SIGALRM, interrupted) != SIG_ERR && setitimer(ITIMER_REAL, &often, NULL) == 0);
  tvm_eff_model *model = created(0);
  for (int round = 0; round < ROUNDS; ++round) run_once(model);
  net->destroy(model);
  setitimer(ITIMER_REAL, &never, NULL);
}

static void without_memory(void) {
  struct rlimit before, none = {1 << 20, RLIM_INFINITY};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  none.rlim_max = before.rlim_max;
  REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
  tvm_eff_options options = {sizeof options, 1, NULL, 0, 0};
  tvm_eff_model *models[10000];
  int code = TVM_EFF_OK, made = 0;
  while (made < 10000 && code == TVM_EFF_OK) code = net->create(&options, &models[made++]);
  REQUIRE(code == TVM_EFF_NO_MEMORY && models[made - 1] == NULL);
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  for (int each = 0; each < made; ++each) net->destroy(models[each]);
}

static void on_cores(void) {
  int32_t cores[] = {0, 4095};
  tvm_eff_model *model;
  tvm_eff_options options = {sizeof options, 0, cores, 1, 0};
  REQUIRE(net->create(&options, &model) == TVM_EFF_OK);
  run_once(model);
  net->destroy(model);
  options.core_count = 2;
  REQUIRE(net->create(&options, &model) == TVM_EFF_BAD_ARGUMENT && model == NULL);
  REQUIRE(strstr(last_error(), "may not use core 4095") != NULL);
  options = (tvm_eff_options){sizeof options, 4096, NULL, 0, 0};
  REQUIRE(net->create(&options, &model) == TVM_EFF_BAD_ARGUMENT);
  REQUIRE(strstr(last_error(), "4096 threads are asked for, and this process may use ") != NULL);
}

static void by_kernel(void) {
  tvm_eff_model *model = created(1);
  tvm_eff_profile *kernels = calloc((size_t)net->kernel_count, sizeof *kernels);
  void *outputs[] = {malloc(net->outputs[0].bytes)};
  const void *inputs[] = {input};
  REQUIRE(net->profile(model, inputs, outputs, kernels) == TVM_EFF_OK);
  for (int32_t each = 0; each < net->kernel_count; ++each) {
    REQUIRE(kernels[each].calls > 0 && kernels[each].seconds > 0 && kernels[each].kernel[0] != 0);
  }
  free(kernels);
  free(outputs[0]);
  net->destroy(model);
}

int main(int count, char **words) {
  REQUIRE(count == 4);
  net = tvm_eff_this_library();
  REQUIRE(net->abi == TVM_EFF_ABI && net->input_count == 1);
  input = read_all(words[1], net->inputs[0].bytes);
  expected = read_all(words[2], net->outputs[0].bytes);
  misuse();
  by_kernel();
  on_cores();
  with_nan();
  several_at_once();
  in_a_child(ROUNDS);
  in_a_child(0);
  in_a_child_without_threads();
  with_signals();
  open_and_close(atoi(words[3]));
  without_memory();
  puts("ok");
  return 0;
}
