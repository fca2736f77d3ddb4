#define _GNU_SOURCE
/* A bundle in a folder: its files are checked before the system's loader is given one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmark.h"
#include "failure.h"
#include "files.h"
#include "network.h"
#include "tvm_eff_open.h"

const char *const network_usage = "tvm_eff_run [BUNDLE]";

int network_open(const char *folder, struct network *opened) {
  static char library[MOST_PATH], golden[MOST_PATH];
  const char *reason = NULL;
  if (folder == NULL) folder = ".";
  int code = check_files(folder);
  if (code != GOOD) return code;
  if (!join_path(library, folder, LIBRARY_FILE) || !join_path(golden, folder, GOLDEN_FILE)) {
    return fail(MISUSED, "the path of the bundle is too long");
  }
  double begun = seconds_now();
  opened->library = tvm_eff_open(library, &reason);
  opened->seconds = seconds_now() - begun;
  if (opened->library == NULL) {
    return fail(MISUSED, "%s cannot be loaded: %s; build it for this machine", library, reason);
  }
  opened->golden = fopen(golden, "rb");
  if (opened->golden == NULL) return fail(FOUND_WRONG, "%s: %s", golden, strerror(errno));
  opened->golden_name = golden;
  return GOOD;
}
