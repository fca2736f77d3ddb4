/* Read a dtype and a number of elements for each line, then as many bytes of two arrays from two
 * files, and print their relative error. */
#include <stdio.h>
#include <stdlib.h>

#include "accuracy.h"

int main(int count, char **words) {
  if (count != 3) return 2;
  FILE *actual = fopen(words[1], "rb"), *expected = fopen(words[2], "rb");
  char dtype[16];
  long long elements;
  size_t bytes;
  while (scanf("%15s %lld %zu", dtype, &elements, &bytes) == 3) {
    int64_t shape[] = {elements};
    tvm_eff_tensor tensor = {"", dtype, 1, shape, bytes, 1};
    void *one = malloc(bytes + 1), *other = malloc(bytes + 1);
    if (fread(one, 1, bytes, actual) != bytes || fread(other, 1, bytes, expected) != bytes) return 1;
    printf("%.17g\n", relative_error(&tensor, one, other));
    free(one);
    free(other);
  }
  return 0;
}
