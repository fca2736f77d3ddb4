/* Open a library that tvm_eff built by its path, on systems with dlopen: header only. */
#ifndef TVM_EFF_OPEN_H
#define TVM_EFF_OPEN_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tvm_eff.h"

/* A library ends with this mark and the checksum of all that is before it, eight bytes each. */
#define TVM_EFF_MARK "tvm_eff1"

/* A polynomial in an odd number modulo 2^64, whose coefficients are the bytes' words: whichever
 * one word is changed, the sum is another. Four terms at a time, so that it is as fast as memory. */
static inline uint64_t tvm_eff_checksum(const char *bytes, size_t count) {
  const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15), square = factor * factor;
  uint64_t sums[4] = {0, 0, 0, 0}, words[4];
  for (size_t at = 0; at < count; at += sizeof words) {
    size_t left = count - at < sizeof words ? count - at : sizeof words;
    if (left < sizeof words) memset(words, 0, sizeof words);
    memcpy(words, bytes + at, left);
    for (int each = 0; each < 4; ++each) sums[each] = sums[each] * (square * square) + words[each];
  }
  return ((sums[0] * factor + sums[1]) * factor + sums[2]) * factor + sums[3];
}

/* What this program runs on, as a library's ELF header says it; 0 where nobody has tried. */
#if defined(__x86_64__)
#define TVM_EFF_MACHINE 62
#elif defined(__aarch64__)
#define TVM_EFF_MACHINE 183
#elif defined(__arm__)
#define TVM_EFF_MACHINE 40
#else
#define TVM_EFF_MACHINE 0
#endif

/* Of another architecture the system's loader only says that there is no such file. */
static inline int tvm_eff_is_foreign(const char *content, size_t size) {
  uint16_t machine;
  const size_t at = 18;
  if (TVM_EFF_MACHINE == 0 || size < at + sizeof machine) return 0;
  memcpy(&machine, content + at, sizeof machine);
  return machine != TVM_EFF_MACHINE;
}

/* What is wrong with the content of a file; NULL if it is as it was built, for this machine. */
static inline const char *tvm_eff_damage(const char *content, size_t size) {
  uint64_t expected;
  const size_t end = 2 * sizeof expected;
  if (size < end || memcmp(content + size - end, TVM_EFF_MARK, sizeof expected) != 0) {
    return "it is no library of tvm_eff's, or not all of it: copy it again";
  }
  memcpy(&expected, content + size - sizeof expected, sizeof expected);
  if (tvm_eff_checksum(content, size - end) != expected) {
    return "it is damaged, its checksum is another: copy it again";
  }
  return tvm_eff_is_foreign(content, size) ? "it is for another architecture: build it for this one"
                                           : NULL;
}

static inline const char *tvm_eff_check_file(const char *path) {
  int file = open(path, O_RDONLY);
  struct stat found;
  if (file < 0) return strerror(errno);
  const char *problem = NULL;
  if (fstat(file, &found) != 0) {
    problem = strerror(errno);
  } else if (!S_ISREG(found.st_mode) || found.st_size == 0) {
    problem = "it is no file, or empty: copy it again";
  } else {
    void *content = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (content == MAP_FAILED) {
      problem = strerror(errno);
    } else {
      problem = tvm_eff_damage((const char *)content, (size_t)found.st_size);
      munmap(content, (size_t)found.st_size);
    }
  }
  close(file);
  return problem;
}

/* As tvm_eff_open; *handle is for dlclose, once no model of the library is left. */
static inline const tvm_eff_library *tvm_eff_open_handle(const char *path, void **handle,
                                                         const char **error) {
  const char *ignored;
  if (error == NULL) error = &ignored;
  *handle = NULL;
  *error = tvm_eff_check_file(path);
  if (*error != NULL) return NULL;
  *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (*handle == NULL) {
    *error = dlerror();
    return NULL;
  }
  union {
    void *symbol;
    const tvm_eff_library *(*function)(void);
  } found;
  found.symbol = dlsym(*handle, "tvm_eff_this_library");
  const tvm_eff_library *library = found.symbol == NULL ? NULL : found.function();
  if (library != NULL && library->abi == TVM_EFF_ABI) return library;
  *error = "it has another version of the interface: use the header that came with it";
  dlclose(*handle);
  *handle = NULL;
  return NULL;
}

/* Returns NULL and leaves a message in *error, which may be NULL. A damaged file is not loaded.
 * What is open stays open: its models may be in use. */
static inline const tvm_eff_library *tvm_eff_open(const char *path, const char **error) {
  void *handle;
  return tvm_eff_open_handle(path, &handle, error);
}

#endif
