#define _GNU_SOURCE
#include "npz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

#define ALIGNMENT 64
#define MOST_NAME 64
#define MOST_HEADER 1024

/* Sizes and signatures of PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16. */
#define LOCAL_BYTES 30
#define LOCAL_SIGNATURE 0x04034b50u
#define ENTRY_BYTES 46
#define ENTRY_SIGNATURE 0x02014b50u
#define END_BYTES 22
#define END_SIGNATURE 0x06054b50u

typedef struct entry {
  long at;
  size_t bytes;
} entry;

static uint32_t number(const unsigned char *bytes, int count) {
  uint32_t found = 0;
  for (int each = count - 1; each >= 0; --each) found = found << 8 | bytes[each];
  return found;
}

static int get(FILE *file, void *into, size_t bytes) {
  return fread(into, 1, bytes, file) == bytes;
}

/* Find a file in the archive's directory. */
static int find(FILE *file, const char *name, unsigned char found[ENTRY_BYTES]) {
  unsigned char end[END_BYTES];
  if (fseek(file, -END_BYTES, SEEK_END) != 0 || !get(file, end, sizeof end)) return 0;
  if (number(end, 4) != END_SIGNATURE || fseek(file, (long)number(end + 16, 4), SEEK_SET) != 0) {
    return 0;
  }
  for (uint32_t left = number(end + 10, 2); left > 0; --left) {
    char own[MOST_NAME];
    if (!get(file, found, ENTRY_BYTES) || number(found, 4) != ENTRY_SIGNATURE) return 0;
    size_t length = number(found + 28, 2);
    if (length >= sizeof own || !get(file, own, length)) return 0;
    own[length] = 0;
    if (strcmp(own, name) == 0) return 1;
    if (fseek(file, (long)(number(found + 30, 2) + number(found + 32, 2)), SEEK_CUR) != 0) return 0;
  }
  return 0;
}

/* Where a file's content lies, if it is neither compressed nor encrypted. */
static int locate(FILE *file, const char *name, entry *found) {
  unsigned char listed[ENTRY_BYTES], local[LOCAL_BYTES];
  if (!find(file, name, listed)) return 0;
  uint32_t flags = number(listed + 8, 2), method = number(listed + 10, 2);
  uint32_t stored = number(listed + 20, 4), bytes = number(listed + 24, 4);
  long at = (long)number(listed + 42, 4);
  if ((flags & 1) != 0 || method != 0 || stored != bytes || bytes > INT32_MAX) return 0;
  if (fseek(file, at, SEEK_SET) != 0 || !get(file, local, sizeof local)) return 0;
  if (number(local, 4) != LOCAL_SIGNATURE) return 0;
  *found = (entry){at + LOCAL_BYTES + (long)(number(local + 26, 2) + number(local + 28, 2)), bytes};
  return fseek(file, found->at, SEEK_SET) == 0;
}

static const char *described(const char *dtype) {
  static const char *const known[][2] = {
      {"float16", "<f2"}, {"float32", "<f4"}, {"float64", "<f8"}, {"bool", "|b1"},
      {"int8", "|i1"},    {"int16", "<i2"},   {"int32", "<i4"},   {"int64", "<i8"},
      {"uint8", "|u1"},   {"uint16", "<u2"},  {"uint32", "<u4"},  {"uint64", "<u8"},
  };
  for (size_t each = 0; each < sizeof known / sizeof *known; ++each) {
    if (strcmp(known[each][0], dtype) == 0) return known[each][1];
  }
  return NULL;
}

/* What numpy writes before an array of these: numpy.lib.format, version 1.0. */
static int header_of(const tvm_eff_tensor *wanted, char header[MOST_HEADER]) {
  const char *dtype = described(wanted->dtype);
  if (dtype == NULL) return 0;
  int used =
      snprintf(header, MOST_HEADER, "{'descr': '%s', 'fortran_order': False, 'shape': (", dtype);
  for (int32_t axis = 0; axis < wanted->rank && used < MOST_HEADER; ++axis) {
    const char *end = axis + 1 < wanted->rank ? ", " : wanted->rank == 1 ? "," : "";
    used += snprintf(header + used, MOST_HEADER - (size_t)used, "%lld%s",
                     (long long)wanted->shape[axis], end);
  }
  if (used < MOST_HEADER) used += snprintf(header + used, MOST_HEADER - (size_t)used, "), }");
  return used < MOST_HEADER ? used : 0;
}

/* Skip the array's header if it is the one that is wanted. */
static int skip_header(FILE *file, const tvm_eff_tensor *wanted, size_t bytes) {
  unsigned char begin[10];
  char expected[MOST_HEADER], found[MOST_HEADER];
  int length = header_of(wanted, expected);
  if (length == 0 || !get(file, begin, sizeof begin)) return 0;
  if (memcmp(begin, "\x93NUMPY\x01\x00", 8) != 0) return 0;
  size_t padded = number(begin + 8, 2);
  if (padded <= (size_t)length || padded > sizeof found || !get(file, found, padded)) return 0;
  /* It is filled with blanks. */
  for (size_t each = (size_t)length; each < padded - 1; ++each) {
    if (found[each] != ' ') return 0;
  }
  return memcmp(found, expected, (size_t)length) == 0 && found[padded - 1] == '\n' &&
         bytes == sizeof begin + padded + wanted->bytes;
}

int npz_read(FILE *file, const char *what, const char *array, const tvm_eff_tensor *wanted,
             void **data) {
  char name[MOST_NAME];
  entry found;
  snprintf(name, sizeof name, "%s.npy", array);
  if (!locate(file, name, &found) || !skip_header(file, wanted, found.bytes)) {
    return fail(FOUND_WRONG, "%s does not hold %s as numpy.savez writes it; build the bundle again",
                what, array);
  }
  if (posix_memalign(data, ALIGNMENT, wanted->bytes + ALIGNMENT) != 0) {
    return fail(FOUND_WRONG, "there is no memory for %s, %zu bytes", array, wanted->bytes);
  }
  if (get(file, *data, wanted->bytes)) return GOOD;
  free(*data);
  *data = NULL;
  return fail(FOUND_WRONG, "%s is cut short in %s; copy the bundle again", what, array);
}
