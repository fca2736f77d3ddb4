/* Opens a library by its path, and says its network's name, or what is wrong. */
#include <stdio.h>

#include "tvm_eff_open.h"

int main(int count, char **words) {
  const char *error = "give a library";
  const tvm_eff_library *net = count == 2 ? tvm_eff_open(words[1], &error) : NULL;
  puts(net == NULL ? error : net->name);
  return net == NULL;
}
