#include <math.h>
#include <stdio.h>

#include "report.h"

static void print_text(const char *text) {
  putchar('"');
  for (const unsigned char *next = (const unsigned char *)text; *next != 0; ++next) {
    if (*next == '"' || *next == '\\') printf("\\%c", *next);
    else if (*next < 32) printf("\\u%04x", *next);
    else putchar(*next);
  }
  putchar('"');
}

/* JSON has no infinity. */
static void print_number(double value) {
  if (isfinite(value)) printf("%.9g", value);
  else printf("null");
}

static void print_field(const char *name, double value) {
  printf(", \"%s\": ", name);
  print_number(value);
}

static double told(long value, double unit) {
  return value == NOT_TOLD ? NAN : (double)value / unit;
}

static void print_state(const char *name, const machine_state *state) {
  printf(", \"%s\": {\"slowest_mhz\": ", name);
  print_number(told(state->slowest_khz, 1e3));
  print_field("fastest_mhz", told(state->fastest_khz, 1e3));
  print_field("celsius", told(state->millidegrees, 1e3));
  print_field("throttled", told(state->throttled, 1));
  putchar('}');
}

static void print_timing(const struct timing *timing) {
  if (timing->count == 0) return;
  printf(", \"unit\": \"seconds\", \"values\": [");
  for (int each = 0; each < timing->count; ++each) {
    printf("%s%.9g", each == 0 ? "" : ", ", timing->seconds[each]);
  }
  putchar(']');
  for (int each = 0; each < 4; ++each) {
    static const int percents[] = {10, 50, 90, 99};
    char name[16];
    snprintf(name, sizeof name, "p%d_ms", percents[each]);
    print_field(name, timing_percentile(timing, percents[each]) * 1e3);
  }
  print_field("min_ms", timing->seconds[0] * 1e3);
  print_field("mean_ms", timing_mean(timing) * 1e3);
}

static void print_profile(const struct report *report) {
  printf(", \"kernels\": [");
  for (int32_t each = 0; each < report->library->kernel_count; ++each) {
    const tvm_eff_profile *kernel = &report->profile[each];
    printf("%s{\"kernel\": ", each == 0 ? "" : ", ");
    print_text(kernel->kernel);
    printf(", \"modules\": ");
    print_text(kernel->modules);
    printf(", \"calls\": %d", kernel->calls);
    print_field("ms", kernel->seconds * 1e3);
    putchar('}');
  }
  putchar(']');
}

void report_print_json(const struct report *report) {
  printf("{\"model\": ");
  print_text(report->library->name);
  printf(", \"target\": ");
  print_text(report->library->built_for);
  print_field("largest_error", report->largest_error);
  print_field("tolerance", report->allowed);
  printf(", \"threads\": %d, \"cores\": \"%s\"", report->threads, report->cores);
  print_field("load_ms", report->load_seconds * 1e3);
  print_field("first_ms", report->first_seconds * 1e3);
  print_timing(&report->timing);
  print_field("peak_memory_bytes", told(report->peak_memory, 1));
  printf(", \"throttled_unit\": \"%s\"", throttling_unit());
  print_state("before", &report->before);
  print_state("after", &report->after);
  if (report->profile != NULL) print_profile(report);
  puts("}");
}
