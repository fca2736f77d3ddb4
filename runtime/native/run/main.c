/* tvm_eff_run: check a network on the machine that it runs on, and say what it costs there. */
#include <stdio.h>

#include "benchmark.h"
#include "check.h"
#include "failure.h"
#include "network.h"
#include "report.h"

static void print_help(void) {
  printf(
      "usage: %s [options]\n\n"
      "Runs the golden inputs, compares the outputs with PyTorch's, and times inferences.\n\n"
      "  --threads N   threads to use (default: one for each core that the process may use)\n"
      "  --cores LIST  the cores to use, such as 0,2-3 (default: all that the process may use)\n"
      "  --repeat N    inferences to time, at most (default: 50)\n"
      "  --warm-up N   inferences before that (default: 5)\n"
      "  --profile     say what each kernel takes\n"
      "  --check       compare the outputs, and time nothing\n"
      "  --json        one line of JSON\n\n"
      "It ends with 0 if all is good, 1 if a file is damaged or a result is wrong, and 2 if an\n"
      "option, a path or the machine is not right.\n",
      network_usage);
}

static int choose_cores(const struct options *options, struct report *report) {
  int code = use_cores(options->cores, options->core_count);
  if (code != GOOD) return code;
  report->core_count = usable_cores(report->cores, sizeof report->cores);
  if (options->threads <= report->core_count) return GOOD;
  return fail(MISUSED,
              "--threads %d is more than the %d cores that this process may use, where they would "
              "only wait for each other",
              options->threads, report->core_count);
}

static int code_of(int failure) {
  int is_misuse = failure == TVM_EFF_WRONG_MACHINE || failure == TVM_EFF_BAD_ARGUMENT;
  return is_misuse ? MISUSED : FOUND_WRONG;
}

static int open_model(const struct options *options, struct network *network, tvm_eff_model **model,
                      struct report *report) {
  int code = network_open(options->folder, network);
  if (code != GOOD) return code;
  double begun = seconds_now();
  tvm_eff_options wanted = {.size = sizeof wanted,
                            .threads = options->threads,
                            .cores = options->core_count == 0 ? NULL : options->cores,
                            .core_count = options->core_count};
  int failure = network->library->create(&wanted, model);
  if (failure != TVM_EFF_OK) return fail(code_of(failure), "%s", network->library->last_error());
  report->library = network->library;
  report->threads = network->library->threads(*model);
  report->load_seconds = network->seconds + seconds_now() - begun;
  return GOOD;
}

static int check_first(const struct network *network, tvm_eff_model *model,
                       const struct golden *golden, struct report *report) {
  double before = seconds_now();
  int failure = network->library->run(model, golden->inputs, golden->outputs);
  report->first_seconds = seconds_now() - before;
  if (failure != TVM_EFF_OK) return fail(code_of(failure), "%s", network->library->last_error());
  for (int32_t each = 0; each < network->library->output_count; ++each) {
    if (golden->allowed[each] > report->allowed) report->allowed = golden->allowed[each];
  }
  return golden_check(network, golden, &report->largest_error);
}

static int measure(const struct options *options, tvm_eff_model *model, const struct golden *golden,
                   struct report *report) {
  tvm_eff_profile *profile = NULL;
  report->before = machine_now();
  int code = GOOD;
  if (!options->check_only) {
    code = time_inferences(report->library, model, golden, options->warm_up, options->repeat,
                           &report->timing);
  }
  report->after = machine_now();
  report->peak_memory = peak_memory();
  if (code == GOOD && options->profile) {
    code = profile_kernels(report->library, model, golden, options->repeat, &profile);
  }
  report->profile = profile;
  return code;
}

int main(int count, char **words) {
  static struct options options;
  static struct report report;
  struct network network = {0};
  struct golden golden;
  tvm_eff_model *model = NULL;
  int code = options_read(count, words, &options);
  if (code != GOOD) return code;
  if (options.help) {
    print_help();
    return GOOD;
  }
  code = choose_cores(&options, &report);
  if (code == GOOD) code = open_model(&options, &network, &model, &report);
  if (code == GOOD) code = golden_load(&network, &golden);
  if (code == GOOD) code = check_first(&network, model, &golden, &report);
  if (code == GOOD) code = measure(&options, model, &golden, &report);
  if (code != GOOD) return code;
  if (options.json) report_print_json(&report);
  else report_print(&report);
  network.library->destroy(model);
  if (fflush(stdout) != 0) return fail(FOUND_WRONG, "the report cannot be written");
  return GOOD;
}
