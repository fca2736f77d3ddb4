// OpenCL's status codes as messages.
#ifndef TVM_EFF_OPENCL_ERRORS_H_
#define TVM_EFF_OPENCL_ERRORS_H_

#include <string>

#include "cl.h"

namespace tvm_eff {
namespace opencl {

// Khronos' name of a status, such as CL_OUT_OF_RESOURCES.
std::string StatusName(cl_int status);

[[noreturn]] void Fail(const std::string& what, cl_int status);

// Throws a RuntimeError unless the status is success; `what` says what was being done.
inline void Check(cl_int status, const char* what) {
  if (status != CL_SUCCESS) Fail(what, status);
}

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_ERRORS_H_
