/* What Linux tells of the machine, before and after. */
#ifndef TVM_EFF_RUN_MACHINE_H
#define TVM_EFF_RUN_MACHINE_H

#include <limits.h>

#define NOT_TOLD LONG_MIN

typedef struct machine_state {
  long slowest_khz, fastest_khz; /* of the cores that this process may use */
  long millidegrees;             /* of the hottest thermal zone */
  long throttled;                /* what throttling_unit says */
} machine_state;

machine_state machine_now(void);

/* What `throttled` is: a Raspberry Pi's flags, or how often the processor has been throttled. */
const char *throttling_unit(void);

/* The largest memory so far, in bytes. */
long peak_memory(void);

/* Give the process these cores alone, or all that it has; returns an exit code. */
int use_cores(const int *cores, int count);

/* The cores that this process may use: how many, and in words such as "0,2-3". */
int usable_cores(char *words, int room);

#endif
