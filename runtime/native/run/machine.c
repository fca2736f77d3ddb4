#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "failure.h"

/* A test puts another folder in its place. */
#ifndef SYSTEM_ROOT
#define SYSTEM_ROOT ""
#endif

#define FIRMWARE_FLAGS SYSTEM_ROOT "/sys/devices/platform/soc/soc:firmware/get_throttled"
#define MOST_ZONES 64

static long read_number(const char *path, const char *format) {
  long found;
  FILE *file = fopen(path, "r");
  if (file == NULL) return NOT_TOLD;
  if (fscanf(file, format, &found) != 1) found = NOT_TOLD;
  fclose(file);
  return found;
}

static long of_core(int core, const char *what) {
  char path[256];
  snprintf(path, sizeof path, SYSTEM_ROOT "/sys/devices/system/cpu/cpu%d/%s", core, what);
  return read_number(path, "%ld");
}

static long hottest_zone(void) {
  long hottest = NOT_TOLD;
  for (int zone = 0; zone < MOST_ZONES; ++zone) {
    char path[256];
    snprintf(path, sizeof path, SYSTEM_ROOT "/sys/class/thermal/thermal_zone%d/temp", zone);
    long found = read_number(path, "%ld");
    if (found > hottest) hottest = found;
  }
  return hottest;
}

static long throttle_count(const cpu_set_t *usable) {
  long sum = NOT_TOLD;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, usable)) continue;
    long found = of_core(core, "thermal_throttle/core_throttle_count");
    if (found != NOT_TOLD) sum = sum == NOT_TOLD ? found : sum + found;
  }
  return sum;
}

machine_state machine_now(void) {
  machine_state now = {NOT_TOLD, NOT_TOLD, hottest_zone(), read_number(FIRMWARE_FLAGS, "%lx")};
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return now;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    long khz = CPU_ISSET(core, &usable) ? of_core(core, "cpufreq/scaling_cur_freq") : NOT_TOLD;
    if (khz == NOT_TOLD) continue;
    if (now.slowest_khz == NOT_TOLD || khz < now.slowest_khz) now.slowest_khz = khz;
    if (khz > now.fastest_khz) now.fastest_khz = khz;
  }
  if (now.throttled == NOT_TOLD) now.throttled = throttle_count(&usable);
  return now;
}

const char *throttling_unit(void) {
  return read_number(FIRMWARE_FLAGS, "%lx") == NOT_TOLD ? "times" : "flags";
}

long peak_memory(void) {
  char line[256];
  long kilobytes = NOT_TOLD;
  FILE *file = fopen("/proc/self/status", "r");
  if (file == NULL) return NOT_TOLD;
  while (kilobytes == NOT_TOLD && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "VmHWM: %ld kB", &kilobytes) != 1) kilobytes = NOT_TOLD;
  }
  fclose(file);
  return kilobytes == NOT_TOLD ? NOT_TOLD : kilobytes * 1024;
}

int use_cores(const int *cores, int count) {
  char words[256];
  cpu_set_t usable, wanted;
  if (count == 0) return GOOD;
  CPU_ZERO(&wanted);
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) {
    return fail(FOUND_WRONG, "the system does not tell this process's cores: %s", strerror(errno));
  }
  for (int each = 0; each < count; ++each) {
    if (cores[each] >= CPU_SETSIZE || !CPU_ISSET(cores[each], &usable)) {
      usable_cores(words, sizeof words);
      return fail(MISUSED, "--cores names core %d, and this process may use %s", cores[each],
                  words);
    }
    CPU_SET(cores[each], &wanted);
  }
  if (sched_setaffinity(0, sizeof wanted, &wanted) == 0) return GOOD;
  return fail(FOUND_WRONG, "this process cannot be given its cores: %s", strerror(errno));
}

int usable_cores(char *words, int room) {
  cpu_set_t usable;
  int used = 0;
  words[0] = 0;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return 1;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &usable)) continue;
    int last = core;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &usable)) ++last;
    const char *comma = used == 0 ? "" : ",";
    if (used < room) {
      used += last == core
                  ? snprintf(words + used, (size_t)(room - used), "%s%d", comma, core)
                  : snprintf(words + used, (size_t)(room - used), "%s%d-%d", comma, core, last);
    }
    core = last;
  }
  return CPU_COUNT(&usable);
}
