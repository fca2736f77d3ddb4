/* Open a library that tvm_eff built by its path, on systems with dlopen: header only. */
#ifndef TVM_EFF_OPEN_H
#define TVM_EFF_OPEN_H

#include <dlfcn.h>

#include "tvm_eff.h"

/* Returns NULL and leaves a message in *error, which may be NULL. What is open stays open: its
 * models may be in use. Check a file that may be torn before (a bundle's manifest has its size and
 * its SHA-256): the system's loader trusts what it loads. */
static inline const tvm_eff_library *tvm_eff_open(const char *path, const char **error) {
  const char *ignored;
  if (error == NULL) error = &ignored;
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) {
    *error = dlerror();
    return NULL;
  }
  union {
    void *symbol;
    const tvm_eff_library *(*function)(void);
  } found;
  found.symbol = dlsym(handle, "tvm_eff_this_library");
  if (found.symbol == NULL) {
    *error = "it exports no tvm_eff_this_library: it was not built with --runtime native";
    dlclose(handle);
    return NULL;
  }
  const tvm_eff_library *library = found.function();
  if (library->abi != TVM_EFF_ABI) {
    *error = "it has another version of the interface: use the header that came with it";
    dlclose(handle);
    return NULL;
  }
  return library;
}

#endif
