#include "files.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "failure.h"
#include "sha256.h"

#define ADVICE "build or copy the bundle again"
#define MOST_LINE 512

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__i386__)
#define OWN_MACHINE EM_386
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#elif defined(__arm__)
#define OWN_MACHINE EM_ARM
#else
#error "this architecture has no number here yet: see elf.h"
#endif

int join_path(char path[MOST_PATH], const char *folder, const char *name) {
  return snprintf(path, MOST_PATH, "%s/%s", folder, name) < MOST_PATH;
}

/* A regular file, as a FIFO would never end; NULL after a message. */
static FILE *open_file(const char *folder, const char *name, int *code) {
  char path[MOST_PATH];
  struct stat status;
  if (!join_path(path, folder, name)) {
    *code = fail(MISUSED, "the path of the bundle is too long");
    return NULL;
  }
  if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
    *code = fail(FOUND_WRONG, "%s is no regular file; " ADVICE, path);
    return NULL;
  }
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    *code = fail(FOUND_WRONG, "%s cannot be read: %s; the bundle is incomplete: " ADVICE, path,
                 strerror(errno));
  }
  return file;
}

static int check_folder(const char *folder) {
  char path[MOST_PATH];
  struct stat status;
  if (stat(folder, &status) != 0) {
    return fail(MISUSED, "there is no bundle %s: %s; check the path", folder, strerror(errno));
  }
  if (!S_ISDIR(status.st_mode)) {
    return fail(MISUSED, "%s is a file; give a bundle's folder", folder);
  }
  if (!join_path(path, folder, MANIFEST_FILE) || stat(path, &status) != 0) {
    return fail(MISUSED,
                "%s is not a bundle: it has no " MANIFEST_FILE
                "; give the folder that a "
                "compilation wrote",
                folder);
  }
  return GOOD;
}

/* It is what a manifest says first. */
static int check_format(const char *folder) {
  int code = GOOD, format;
  char begin[128];
  FILE *file = open_file(folder, MANIFEST_FILE, &code);
  if (file == NULL) return code;
  begin[fread(begin, 1, sizeof begin - 1, file)] = 0;
  fclose(file);
  if (sscanf(begin, " { \"format\" : %d", &format) != 1 || format < 1) {
    return fail(FOUND_WRONG, "%s/" MANIFEST_FILE " does not say its format; " ADVICE, folder);
  }
  if (format <= TVM_EFF_BUNDLE_FORMAT) return GOOD;
  return fail(MISUSED,
              "%s has format %d, and this program reads formats up to %d; use the tvm_eff_run "
              "that came with that bundle",
              folder, format, TVM_EFF_BUNDLE_FORMAT);
}

static int check_sum(const char *folder, const char *name, const char *expected) {
  int code = GOOD;
  FILE *file = open_file(folder, name, &code);
  if (file == NULL) return code;
  sha256 digest;
  char found[SHA256_TEXT + 1], chunk[1 << 16];
  sha256_begin(&digest);
  for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0;) {
    sha256_add(&digest, chunk, got);
  }
  int unreadable = ferror(file);
  fclose(file);
  sha256_end(&digest, found);
  if (!unreadable && strcmp(found, expected) == 0) return GOOD;
  return fail(FOUND_WRONG, "%s/%s is damaged: its SHA-256 is not that of " SUMS_FILE "; " ADVICE,
              folder, name);
}

/* A line as sha256sum writes it: the digits, two blanks, and the name of a file beside it. */
static const char *named_in(char *line) {
  char *end = strchr(line, '\n');
  if (end == NULL || strspn(line, "0123456789abcdef") != SHA256_TEXT) return NULL;
  if (strncmp(line + SHA256_TEXT, "  ", 2) != 0) return NULL;
  *end = 0;
  line[SHA256_TEXT] = 0;
  const char *name = line + SHA256_TEXT + 2;
  return *name == 0 || strchr(name, '/') != NULL ? NULL : name;
}

static int check_sums(const char *folder) {
  static const char *const needed[] = {LIBRARY_FILE, GOLDEN_FILE, MANIFEST_FILE};
  enum { NEEDED = sizeof needed / sizeof *needed };
  int code = GOOD, there[NEEDED] = {0};
  char line[MOST_LINE];
  FILE *sums = open_file(folder, SUMS_FILE, &code);
  if (sums == NULL) return code;
  while (code == GOOD && fgets(line, sizeof line, sums) != NULL) {
    const char *name = named_in(line);
    if (name == NULL) {
      code = fail(FOUND_WRONG, "%s/" SUMS_FILE " is damaged; " ADVICE, folder);
      break;
    }
    code = check_sum(folder, name, line);
    for (int each = 0; each < NEEDED; ++each) there[each] |= strcmp(name, needed[each]) == 0;
  }
  fclose(sums);
  for (int each = 0; each < NEEDED && code == GOOD; ++each) {
    if (!there[each]) {
      code = fail(FOUND_WRONG, "%s/" SUMS_FILE " has no %s; " ADVICE, folder, needed[each]);
    }
  }
  return code;
}

static int check_architecture(const char *folder) {
  int code = GOOD;
  Elf32_Ehdr header; /* what is asked for lies at the same place in those of 64 bits */
  FILE *file = open_file(folder, LIBRARY_FILE, &code);
  if (file == NULL) return code;
  size_t got = fread(&header, 1, sizeof header, file);
  fclose(file);
  if (got < sizeof header || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return fail(MISUSED, "%s/" LIBRARY_FILE " is no library of Linux; build it for this machine",
                folder);
  }
  if (header.e_machine == OWN_MACHINE) return GOOD;
  return fail(MISUSED,
              "%s/" LIBRARY_FILE
              " is for another architecture (ELF machine %d, and this is %d); "
              "run it on the machine that it was built for, or build it for this one",
              folder, header.e_machine, OWN_MACHINE);
}

int check_files(const char *folder) {
  int code = check_folder(folder);
  if (code == GOOD) code = check_format(folder);
  if (code == GOOD) code = check_sums(folder);
  if (code == GOOD) code = check_architecture(folder);
  return code;
}
