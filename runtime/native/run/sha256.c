#include "sha256.h"

#include <stdio.h>
#include <string.h>

#define LENGTH_AT 56 /* where the last block holds how long the message is */

/* Section 4.2.2: the first 32 bits of the fractions of the first 64 primes' cube roots. */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotated(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

/* Section 6.2.2, step 1. */
static void schedule(const unsigned char *block, uint32_t words[64]) {
  for (int each = 0; each < 16; ++each) {
    const unsigned char *bytes = block + 4 * each;
    words[each] = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
                  (uint32_t)bytes[3];
  }
  for (int each = 16; each < 64; ++each) {
    uint32_t early = words[each - 15], late = words[each - 2];
    uint32_t sigma0 = rotated(early, 7) ^ rotated(early, 18) ^ early >> 3;
    uint32_t sigma1 = rotated(late, 17) ^ rotated(late, 19) ^ late >> 10;
    words[each] = sigma1 + words[each - 7] + sigma0 + words[each - 16];
  }
}

/* Section 6.2.2, steps 2 to 4. */
static void add_block(sha256 *digest, const unsigned char *block) {
  uint32_t words[64], v[8];
  schedule(block, words);
  memcpy(v, digest->hash, sizeof v);
  for (int each = 0; each < 64; ++each) {
    uint32_t sum0 = rotated(v[0], 2) ^ rotated(v[0], 13) ^ rotated(v[0], 22);
    uint32_t sum1 = rotated(v[4], 6) ^ rotated(v[4], 11) ^ rotated(v[4], 25);
    uint32_t chosen = (v[4] & v[5]) ^ (~v[4] & v[6]);
    uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
    uint32_t first = v[7] + sum1 + chosen + constants[each] + words[each];
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += first;
    v[0] = first + sum0 + majority;
  }
  for (int each = 0; each < 8; ++each) digest->hash[each] += v[each];
}

void sha256_begin(sha256 *digest) {
  /* Section 5.3.3: of the first eight primes' square roots. */
  static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(digest->hash, initial, sizeof initial);
  digest->bytes = 0;
}

void sha256_add(sha256 *digest, const void *data, size_t bytes) {
  const unsigned char *next = data;
  while (bytes > 0) {
    size_t held = digest->bytes % SHA256_BLOCK, room = SHA256_BLOCK - held;
    size_t taken = bytes < room ? bytes : room;
    memcpy(digest->block + held, next, taken);
    digest->bytes += taken;
    next += taken;
    bytes -= taken;
    if (taken == room) add_block(digest, digest->block);
  }
}

void sha256_end(sha256 *digest, char text[SHA256_TEXT + 1]) {
  static const unsigned char padding[SHA256_BLOCK] = {0x80};
  uint64_t bits = digest->bytes * 8;
  size_t held = digest->bytes % SHA256_BLOCK;
  sha256_add(digest, padding, (held < LENGTH_AT ? LENGTH_AT : LENGTH_AT + SHA256_BLOCK) - held);
  unsigned char length[8];
  for (int each = 0; each < 8; ++each) length[each] = (unsigned char)(bits >> (56 - 8 * each));
  sha256_add(digest, length, sizeof length);
  for (int each = 0; each < 8; ++each) snprintf(text + 8 * each, 9, "%08x", digest->hash[each]);
}
