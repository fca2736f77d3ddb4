/* How the runner ends: its exit codes are those of tvm-eff. */
#ifndef TVM_EFF_RUN_FAILURE_H
#define TVM_EFF_RUN_FAILURE_H

enum {
  GOOD = 0,
  FOUND_WRONG = 1, /* a damaged file, a wrong result, no memory */
  MISUSED = 2      /* an option, a path or a machine that is not right */
};

/* Print a message that says what to do next, and return the exit code. */
__attribute__((format(printf, 2, 3))) int fail(int code, const char *format, ...);

#endif
