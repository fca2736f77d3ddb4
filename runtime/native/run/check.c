#define _GNU_SOURCE
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "accuracy.h"
#include "failure.h"
#include "npz.h"

#define ALIGNMENT 64

static int load_all(const struct network *network, const char *kind, const tvm_eff_tensor *tensors,
                    int32_t count, void **into) {
  int code = GOOD;
  for (int32_t each = 0; each < count && code == GOOD; ++each) {
    char name[32];
    snprintf(name, sizeof name, "%s_%d", kind, each);
    code = npz_read(network->golden, network->golden_name, name, &tensors[each], &into[each]);
  }
  return code;
}

static int load_rule(const struct network *network, struct golden *loaded) {
  int64_t outputs = network->library->output_count;
  tvm_eff_tensor allowed = {"", "float64", 1, &outputs, (size_t)outputs * sizeof(double), 8};
  tvm_eff_tensor same_class = {"", "bool", 0, NULL, 1, 1};
  void *found;
  int code = npz_read(network->golden, network->golden_name, "allowed_errors", &allowed, &found);
  if (code != GOOD) return code;
  loaded->allowed = found;
  code = npz_read(network->golden, network->golden_name, "same_class", &same_class, &found);
  if (code == GOOD) loaded->same_class = found;
  return code;
}

int golden_load(const struct network *network, struct golden *loaded) {
  const tvm_eff_library *library = network->library;
  size_t inputs = (size_t)library->input_count, outputs = (size_t)library->output_count;
  /* C knows no allocation of nothing. */
  void **given = calloc(inputs + 1, sizeof *given);
  *loaded = (struct golden){.inputs = (const void **)given,
                            .outputs = calloc(outputs + 1, sizeof(void *)),
                            .expected = calloc(outputs + 1, sizeof(void *))};
  int allocated = given != NULL && loaded->outputs != NULL && loaded->expected != NULL;
  for (size_t each = 0; each < outputs && allocated; ++each) {
    size_t bytes = library->outputs[each].bytes;
    allocated = posix_memalign(&loaded->outputs[each], ALIGNMENT, bytes + ALIGNMENT) == 0;
    /* What nobody writes shows. */
    if (allocated) memset(loaded->outputs[each], 0xff, bytes);
  }
  if (!allocated) return fail(FOUND_WRONG, "there is no memory for the outputs");
  int code = load_all(network, "input", library->inputs, library->input_count, given);
  if (code == GOOD) {
    code = load_all(network, "output", library->outputs, library->output_count, loaded->expected);
  }
  return code == GOOD ? load_rule(network, loaded) : code;
}

int golden_check(const struct network *network, const struct golden *golden, double *largest) {
  const tvm_eff_library *library = network->library;
  *largest = 0;
  for (int32_t each = 0; each < library->output_count; ++each) {
    const tvm_eff_tensor *tensor = &library->outputs[each];
    double error = relative_error(tensor, golden->outputs[each], golden->expected[each]);
    if (error > *largest) *largest = error;
    if (!(error <= golden->allowed[each])) {
      return fail(FOUND_WRONG,
                  "%s on its golden inputs: output %d is wrong: its largest error is %.1e of the "
                  "output's spread, where an error of %.1e is allowed",
                  library->name, each, error, golden->allowed[each]);
    }
    int64_t row = -1;
    if (*golden->same_class) {
      row = row_of_another_class(tensor, golden->outputs[each], golden->expected[each]);
    }
    if (row >= 0) {
      return fail(FOUND_WRONG, "%s on its golden inputs: output %d, row %lld is of another class",
                  library->name, each, (long long)row);
    }
  }
  return GOOD;
}
