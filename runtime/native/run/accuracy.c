#include "accuracy.h"

#include <math.h>
#include <string.h>

typedef double (*reader)(const void *data, size_t at);

/* IEEE 754, binary16: a sign, 5 bits of exponent, 10 of fraction. */
static double read_float16(const void *data, size_t at) {
  unsigned bits = ((const uint16_t *)data)[at], exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 0    ? ldexp(fraction, -24)
                : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                 : ldexp(1024 + fraction, (int)exponent - 25);
  return bits >> 15 ? -size : size;
}

#define READER(name, type)                                 \
  static double read_##name(const void *data, size_t at) { \
    return (double)((const type *)data)[at];               \
  }
READER(float32, float)
READER(float64, double)
READER(int8, int8_t)
READER(int16, int16_t)
READER(int32, int32_t)
READER(int64, int64_t)
READER(uint8, uint8_t)
READER(uint16, uint16_t)
READER(uint32, uint32_t)
READER(uint64, uint64_t)

static reader reader_of(const char *dtype) {
  static const struct {
    const char *dtype;
    reader read;
  } known[] = {
      {"float16", read_float16}, {"float32", read_float32}, {"float64", read_float64},
      {"int8", read_int8},       {"int16", read_int16},     {"int32", read_int32},
      {"int64", read_int64},     {"uint8", read_uint8},     {"uint16", read_uint16},
      {"uint32", read_uint32},   {"uint64", read_uint64},   {"bool", read_uint8},
  };
  for (size_t each = 0; each < sizeof known / sizeof *known; ++each) {
    if (strcmp(known[each].dtype, dtype) == 0) return known[each].read;
  }
  return NULL;
}

static size_t count_of(const tvm_eff_tensor *tensor) {
  size_t count = 1;
  for (int32_t axis = 0; axis < tensor->rank; ++axis) count *= (size_t)tensor->shape[axis];
  return count;
}

static int are_same(double one, double other) {
  return one == other || (isnan(one) && isnan(other));
}

/* The least spread of floats, as a fraction of the largest of them. */
static const double least_spread = 0.2;

/* Of values from least to most. Floats that are near one another differ by rounding. */
static double spread_of(double least, double most, int is_float) {
  double differing = most - least, magnitude = fmax(fabs(least), fabs(most));
  if (differing == 0) return magnitude == 0 ? 1 : magnitude;
  return is_float ? fmax(differing, least_spread * magnitude) : differing;
}

double relative_error(const tvm_eff_tensor *tensor, const void *actual, const void *expected) {
  reader read = reader_of(tensor->dtype);
  if (read == NULL) return INFINITY;
  double least = INFINITY, most = -INFINITY, largest = 0;
  for (size_t each = 0; each < count_of(tensor); ++each) {
    double found = read(actual, each), wanted = read(expected, each);
    if (isfinite(found) && isfinite(wanted)) {
      least = fmin(least, wanted);
      most = fmax(most, wanted);
      largest = fmax(largest, fabs(found - wanted));
    } else if (!are_same(found, wanted)) {
      return INFINITY;
    }
  }
  /* There is nothing finite. */
  if (least > most) return 0;
  return largest / spread_of(least, most, strncmp(tensor->dtype, "float", 5) == 0);
}

static size_t place_of_highest(reader read, const void *data, size_t begin, size_t count) {
  size_t highest = 0;
  for (size_t each = 1; each < count; ++each) {
    if (read(data, begin + each) > read(data, begin + highest)) highest = each;
  }
  return highest;
}

int64_t row_of_another_class(const tvm_eff_tensor *tensor, const void *actual,
                             const void *expected) {
  reader read = reader_of(tensor->dtype);
  if (read == NULL || tensor->rank != 2 || tensor->shape[1] < 2) return -1;
  size_t classes = (size_t)tensor->shape[1];
  for (int64_t row = 0; row < tensor->shape[0]; ++row) {
    size_t begin = (size_t)row * classes;
    if (place_of_highest(read, actual, begin, classes) !=
        place_of_highest(read, expected, begin, classes)) {
      return row;
    }
  }
  return -1;
}
