/* What a service does to libraries that it opens by their paths: says how long it took.
 *
 *     endurance cycles LIBRARY ROUNDS   opens, runs and closes it, and must not grow
 *     endurance threads LIBRARY OTHER ROUNDS   runs both in eight threads, with the same bits
 *     endurance time LIBRARY THREADS ROUNDS   prints the median of its times, in seconds
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tvm_eff_open.h"

#define THREADS 8
#define WARM_UP 20

static void require(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "%s\n", what);
  exit(1);
}

typedef struct network {
  const tvm_eff_library *net;
  void *handle;
  char *input, *expected;
  int rounds;
} network;

static char *filled(size_t bytes) {
  float *values = malloc(bytes);
  for (size_t each = 0; each < bytes / sizeof *values; ++each) values[each] = (float)(each % 17);
  return (char *)values;
}

static network opened(const char *path, int rounds) {
  const char *error;
  network found = {.rounds = rounds};
  found.net = tvm_eff_open_handle(path, &found.handle, &error);
  require(found.net != NULL, error);
  found.input = filled(found.net->inputs[0].bytes);
  return found;
}

static char *run(const network *given, tvm_eff_model *model) {
  char *output = malloc(given->net->outputs[0].bytes);
  const void *inputs[] = {given->input};
  void *outputs[] = {output};
  require(given->net->run(model, inputs, outputs) == TVM_EFF_OK, given->net->last_error());
  return output;
}

static tvm_eff_model *created(const network *given, int threads) {
  tvm_eff_options options = {sizeof options, threads, NULL, 0, 0};
  tvm_eff_model *model;
  require(given->net->create(&options, &model) == TVM_EFF_OK, given->net->last_error());
  return model;
}

static void cycle(const char *path) {
  network given = opened(path, 1);
  tvm_eff_model *model = created(&given, 2);
  free(run(&given, model));
  given.net->destroy(model);
  free(given.input);
  require(dlclose(given.handle) == 0, dlerror());
  require(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL, "it is still loaded after dlclose");
}

static long resident_kb(void) {
  char line[256];
  long found = -1;
  FILE *file = fopen("/proc/self/status", "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "VmRSS: %ld", &found) == 1) break;
  }
  if (file != NULL) fclose(file);
  return found;
}

static void cycles(const char *path, int rounds) {
  for (int round = 0; round < WARM_UP; ++round) cycle(path);
  long before = resident_kb();
  for (int round = 0; round < rounds; ++round) cycle(path);
  printf("%ld %ld\n", before, resident_kb());
}

static void *many(void *argument) {
  const network *given = argument;
  tvm_eff_model *model = created(given, 2);
  for (int round = 0; round < given->rounds; ++round) {
    char *output = run(given, model);
    require(memcmp(output, given->expected, given->net->outputs[0].bytes) == 0, "other bits");
    free(output);
  }
  given->net->destroy(model);
  return NULL;
}

static void in_threads(char **paths, int rounds) {
  network both[2];
  pthread_t threads[THREADS];
  for (int each = 0; each < 2; ++each) {
    both[each] = opened(paths[each], rounds);
    tvm_eff_model *model = created(&both[each], 1);
    both[each].expected = run(&both[each], model);
    both[each].net->destroy(model);
  }
  for (int each = 0; each < THREADS; ++each) {
    require(pthread_create(&threads[each], NULL, many, &both[each % 2]) == 0, "no thread");
  }
  for (int each = 0; each < THREADS; ++each) pthread_join(threads[each], NULL);
  printf("%d\n", THREADS * rounds);
}

static double now(void) {
  struct timespec found;
  clock_gettime(CLOCK_MONOTONIC, &found);
  return (double)found.tv_sec + 1e-9 * (double)found.tv_nsec;
}

static int compare(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return (difference > 0) - (difference < 0);
}

static void timed(const char *path, int threads, int rounds) {
  network given = opened(path, rounds);
  tvm_eff_model *model = created(&given, threads);
  double *times = malloc((size_t)rounds * sizeof *times);
  for (int round = -WARM_UP; round < rounds; ++round) {
    double begun = now();
    free(run(&given, model));
    if (round >= 0) times[round] = now() - begun;
  }
  qsort(times, (size_t)rounds, sizeof *times, compare);
  printf("%.9f\n", times[rounds / 2]);
  given.net->destroy(model);
}

int main(int count, char **words) {
  require(count > 3, "give cycles or threads, libraries and rounds");
  if (strcmp(words[1], "cycles") == 0) cycles(words[2], atoi(words[3]));
  else if (count < 5) require(0, "give the number of rounds last");
  else if (strcmp(words[1], "time") == 0) timed(words[2], atoi(words[3]), atoi(words[4]));
  else in_threads(words + 2, atoi(words[4]));
  return 0;
}
