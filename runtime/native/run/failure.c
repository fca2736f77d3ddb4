#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

int fail(int code, const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("error: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  va_end(values);
  return code;
}
