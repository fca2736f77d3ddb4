// A piece of device memory: what the data pointer of a tensor on an OpenCL device points to.
#ifndef TVM_EFF_OPENCL_BUFFER_H_
#define TVM_EFF_OPENCL_BUFFER_H_

#include "device.h"

namespace tvm_eff {
namespace opencl {

struct Buffer {
  cl_mem memory;
  size_t size;
  Device* device;
};

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_BUFFER_H_
