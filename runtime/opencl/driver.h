// The OpenCL libraries of the system, opened when the first device is asked for.
#ifndef TVM_EFF_OPENCL_DRIVER_H_
#define TVM_EFF_OPENCL_DRIVER_H_

#include <memory>
#include <string>
#include <vector>

#include "cl.h"

namespace tvm_eff {
namespace opencl {

struct Driver {
#define TVM_EFF_OPENCL_MEMBER(place, result, name, parameters) result(*name) parameters = nullptr;
  TVM_EFF_OPENCL_FUNCTIONS(TVM_EFF_OPENCL_MEMBER)
#undef TVM_EFF_OPENCL_MEMBER

  std::string library;
  std::vector<cl_platform_id> platforms;
};

// Those that the user names, or the first usual one that has a platform. Throws, naming what was
// tried and what was wrong with it, if there is none; a later call tries again.
const std::vector<std::unique_ptr<const Driver>>& GetDrivers();

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_DRIVER_H_
