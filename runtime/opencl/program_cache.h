// Program binaries on disk, so that a process does not compile what another one has compiled.
#ifndef TVM_EFF_OPENCL_PROGRAM_CACHE_H_
#define TVM_EFF_OPENCL_PROGRAM_CACHE_H_

#include <optional>
#include <string>

namespace tvm_eff {
namespace opencl {

// Returns the binary that was written under the key; nothing if there is none, or it is broken.
std::optional<std::string> ReadCachedProgram(const std::string& key);

// Replaces what was there as a whole. A folder that cannot be written is no error.
void WriteCachedProgram(const std::string& key, const std::string& binary);

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_PROGRAM_CACHE_H_
