/* Two networks in one program: prints what each makes of ones. */
#include <stdio.h>
#include <stdlib.h>

#include "tvm_eff.h"

const tvm_eff_library *tvm_eff_library_one(void);
const tvm_eff_library *tvm_eff_library_other_net(void);

static int print(const tvm_eff_library *net) {
  tvm_eff_model *model;
  if (net->create(NULL, &model) != TVM_EFF_OK) return 1;
  float *image = malloc(net->inputs[0].bytes);
  for (size_t each = 0; each < net->inputs[0].bytes / sizeof *image; ++each) image[each] = 1;
  const void *inputs[] = {image};
  void *outputs[] = {malloc(net->outputs[0].bytes)};
  if (net->run(model, inputs, outputs) != TVM_EFF_OK) return 1;
  printf("%s %.6g\n", net->name, ((float *)outputs[0])[0]);
  net->destroy(model);
  free(image);
  free(outputs[0]);
  return 0;
}

int main(void) { return print(tvm_eff_library_one()) + print(tvm_eff_library_other_net()); }
