#include <stdio.h>

#include "report.h"

static void print_clock(const machine_state *state) {
  if (state->slowest_khz == NOT_TOLD) {
    printf("not told");
  } else if (state->slowest_khz == state->fastest_khz) {
    printf("%ld MHz", state->slowest_khz / 1000);
  } else {
    printf("%ld-%ld MHz", state->slowest_khz / 1000, state->fastest_khz / 1000);
  }
}

static void print_temperature(const machine_state *state) {
  if (state->millidegrees == NOT_TOLD) printf("not told");
  else printf("%.1f C", (double)state->millidegrees / 1000);
}

static void print_throttling(const machine_state *state) {
  if (state->throttled == NOT_TOLD) printf("not told");
  else if (throttling_unit()[0] == 'f') printf("flags 0x%lx", (unsigned long)state->throttled);
  else printf("%ld times", state->throttled);
}

static void print_both(const struct report *report, const char *what,
                       void (*print)(const machine_state *state)) {
  printf("%-12s", what);
  print(&report->before);
  printf(" before, ");
  print(&report->after);
  printf(" after\n");
}

static void print_profile(const struct report *report) {
  double sum = 0;
  int32_t count = report->library->kernel_count;
  for (int32_t each = 0; each < count; ++each) sum += report->profile[each].seconds;
  printf("\n%10s %6s %6s  kernel\n", "ms", "share", "calls");
  for (int32_t each = 0; each < count; ++each) {
    const tvm_eff_profile *kernel = &report->profile[each];
    printf("%10.3f %5.1f%% %6d  %s%s%s%s\n", kernel->seconds * 1e3,
           sum > 0 ? 100 * kernel->seconds / sum : 0, kernel->calls, kernel->kernel,
           *kernel->modules == 0 ? "" : "  (", kernel->modules, *kernel->modules == 0 ? "" : ")");
  }
}

void report_print(const struct report *report) {
  const struct timing *timing = &report->timing;
  printf("%s for %s\n", report->library->name, report->library->built_for);
  printf("%-12scorrect: largest error %.1e of the spread, %.1e allowed\n", "outputs",
         report->largest_error, report->allowed);
  printf("%-12s%d, on cores %s\n", "threads", report->threads, report->cores);
  printf("%-12s%.3f ms to load, %.3f ms for the first inference\n", "start",
         report->load_seconds * 1e3, report->first_seconds * 1e3);
  if (timing->count > 0) {
    printf("%-12sp10 %.3f ms, p50 %.3f ms, p90 %.3f ms, p99 %.3f ms\n", "latency",
           timing_percentile(timing, 10) * 1e3, timing_percentile(timing, 50) * 1e3,
           timing_percentile(timing, 90) * 1e3, timing_percentile(timing, 99) * 1e3);
    printf("%-12sleast %.3f ms, mean %.3f ms (%d inferences)\n", "", timing->seconds[0] * 1e3,
           timing_mean(timing) * 1e3, timing->count);
  }
  if (report->peak_memory == NOT_TOLD) printf("%-12snot told\n", "memory");
  else printf("%-12s%.1f MB at its peak\n", "memory", (double)report->peak_memory / 1e6);
  print_both(report, "clock", print_clock);
  print_both(report, "temperature", print_temperature);
  print_both(report, "throttled", print_throttling);
  if (report->profile != NULL) print_profile(report);
}
