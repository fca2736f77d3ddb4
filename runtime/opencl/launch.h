// Calls of kernels: the packed arguments of TVM, checked against the limits of the device.
#ifndef TVM_EFF_OPENCL_LAUNCH_H_
#define TVM_EFF_OPENCL_LAUNCH_H_

#include <tvm/ffi/function.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device.h"
#include "source.h"

namespace tvm_eff {
namespace opencl {

// A kernel of a module, built on each device when it is first called there.
class Kernel {
 public:
  // Throws if an argument has a type that no kernel takes.
  Kernel(KernelInfo info, std::string source);
  Kernel(const Kernel&) = delete;
  ~Kernel();

  void Launch(tvm::ffi::PackedArgs arguments);

 private:
  enum class Kind { kBuffer, kInt8, kInt16, kInt32, kInt64, kHalf, kFloat, kDouble };

  // The kernel on one device, and what it may use there.
  struct Built {
    Device* device;
    cl_kernel handle;
    size_t work_group;
    size_t local_memory;
    cl_uint arguments;
  };

  struct Shape {
    cl_uint dimensions = 1;
    std::array<size_t, 3> global = {1, 1, 1};
    std::array<size_t, 3> local = {1, 1, 1};
    size_t dynamic_local = 0;
  };

  static Kind KindOf(const DLDataType& type, const std::string& kernel);
  Built& BuiltFor(int device);
  Shape ReadShape(const TVMFFIAny* extents) const;
  void CheckShape(const Built& built, const Shape& shape) const;
  void SetArguments(const Built& built, const TVMFFIAny* arguments, const Shape& shape) const;

  const KernelInfo info_;
  const std::string source_;
  std::vector<Kind> kinds_;
  // Where each extent goes: 0 to 2 are blocks, 3 to 5 threads, and 6 is the dynamic local memory.
  std::vector<int> places_;
  cl_uint dimensions_ = 1;
  // An OpenCL kernel holds its arguments: one call at a time may set them.
  std::mutex mutex_;
  std::vector<std::pair<int, Built>> built_;
};

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_LAUNCH_H_
