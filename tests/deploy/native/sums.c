/* The SHA-256 of standard input, read in pieces of the size that is given. */
#include <stdio.h>
#include <stdlib.h>

#include "sha256.h"

int main(int count, char **words) {
  size_t piece = count == 2 ? (size_t)atoi(words[1]) : 1, got;
  char *data = malloc(piece), text[SHA256_TEXT + 1];
  sha256 digest;
  sha256_begin(&digest);
  while ((got = fread(data, 1, piece, stdin)) > 0) sha256_add(&digest, data, got);
  sha256_end(&digest, text);
  puts(text);
  return 0;
}
