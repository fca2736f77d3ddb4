// Kernels from source, by way of the cache of program binaries.
#ifndef TVM_EFF_OPENCL_PROGRAM_H_
#define TVM_EFF_OPENCL_PROGRAM_H_

#include <string>

#include "device.h"

namespace tvm_eff {
namespace opencl {

// A kernel of its own program; the caller releases it. Throws with the compiler's log.
cl_kernel BuildKernel(Device& device, const std::string& name, const std::string& source);

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_PROGRAM_H_
