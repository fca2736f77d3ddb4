#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

#define HELP "see --help"
#define MOST_RUNS 1000000

/* A decimal number with nothing behind it but one of `ends`; -1 if it is none. */
static long number(const char *text, const char *ends, const char **end) {
  char *stop;
  if (*text < '0' || *text > '9') return -1;
  errno = 0;
  long found = strtol(text, &stop, 10);
  if (errno != 0 || found > INT_MAX || strchr(ends, *stop) == NULL) return -1;
  *end = stop;
  return found;
}

static int read_count(const char *option, const char *value, long least, long most, int *count) {
  const char *end;
  long found = number(value, "", &end);
  if (found < least || found > most) {
    return fail(MISUSED, "%s is %s; give a number from %ld to %ld", option, value, least, most);
  }
  *count = (int)found;
  return GOOD;
}

/* Such as 0,2-3: what taskset -c takes. */
static int read_cores(const char *value, struct options *read) {
  const char *next = value;
  read->core_count = 0;
  for (;;) {
    long first = number(next, ",-", &next), last = first;
    if (first >= 0 && *next == '-') last = number(next + 1, ",", &next);
    if (first < 0 || last < first || last >= MOST_CORES) break;
    for (long core = first; core <= last && read->core_count < MOST_CORES; ++core) {
      read->cores[read->core_count++] = (int32_t)core;
    }
    if (*next == 0) return GOOD;
    ++next;
  }
  return fail(MISUSED, "--cores is %s; give numbers of cores, such as 0,2-3", value);
}

static int read_valued(const char *option, const char *value, struct options *read) {
  if (strcmp(option, "--cores") == 0) return read_cores(value, read);
  if (strcmp(option, "--threads") == 0) {
    return read_count(option, value, 1, MOST_CORES, &read->threads);
  }
  if (strcmp(option, "--repeat") == 0) {
    return read_count(option, value, 1, MOST_RUNS, &read->repeat);
  }
  return read_count(option, value, 0, MOST_RUNS, &read->warm_up);
}

static int takes_value(const char *option, size_t length) {
  static const char *const known[] = {"--cores", "--threads", "--repeat", "--warm-up"};
  for (size_t each = 0; each < sizeof known / sizeof *known; ++each) {
    if (strlen(known[each]) == length && strncmp(known[each], option, length) == 0) return 1;
  }
  return 0;
}

static int *switch_of(const char *option, struct options *read) {
  if (strcmp(option, "--profile") == 0) return &read->profile;
  if (strcmp(option, "--json") == 0) return &read->json;
  if (strcmp(option, "--check") == 0) return &read->check_only;
  if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) return &read->help;
  return NULL;
}

/* Read the word at *at, and the next one if that is its value. */
static int read_word(int count, char **words, int *at, struct options *read) {
  char *word = words[*at];
  if (word[0] != '-') {
    if (read->folder != NULL) {
      return fail(MISUSED, "%s and %s are two bundles; give one", read->folder, word);
    }
    read->folder = word;
    return GOOD;
  }
  int *switched = switch_of(word, read);
  if (switched != NULL) {
    *switched = 1;
    return GOOD;
  }
  char *equals = strchr(word, '=');
  size_t length = equals == NULL ? strlen(word) : (size_t)(equals - word);
  if (!takes_value(word, length)) return fail(MISUSED, "there is no option %s; " HELP, word);
  if (equals != NULL) {
    *equals = 0;
    return read_valued(word, equals + 1, read);
  }
  if (*at + 1 == count) return fail(MISUSED, "%s has no value; " HELP, word);
  return read_valued(word, words[++*at], read);
}

int options_read(int count, char **words, struct options *read) {
  *read = (struct options){.repeat = 50, .warm_up = 5};
  int code = GOOD;
  for (int at = 1; at < count && code == GOOD && !read->help; ++at) {
    code = read_word(count, words, &at, read);
  }
  return code;
}
