/* SHA-256: NIST, FIPS PUB 180-4, Secure Hash Standard, 2015. */
#ifndef TVM_EFF_RUN_SHA256_H
#define TVM_EFF_RUN_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK 64
#define SHA256_TEXT 64

typedef struct sha256 {
  uint32_t hash[8];
  uint64_t bytes;
  unsigned char block[SHA256_BLOCK];
} sha256;

void sha256_begin(sha256 *digest);
void sha256_add(sha256 *digest, const void *data, size_t bytes);
/* Write it as 64 hexadecimal digits and a zero. */
void sha256_end(sha256 *digest, char text[SHA256_TEXT + 1]);

#endif
