// What TVM's code generator wrote for an OpenCL module: kernels, their arguments, their source.
#ifndef TVM_EFF_OPENCL_SOURCE_H_
#define TVM_EFF_OPENCL_SOURCE_H_

#include <dlpack/dlpack.h>

#include <map>
#include <string>
#include <vector>

namespace tvm_eff {
namespace opencl {

struct KernelInfo {
  std::string name;
  std::vector<DLDataType> argument_types;
  // The meaning of what follows the arguments in a call, such as "blockIdx.x".
  std::vector<std::string> launch_tags;
};

struct ModuleSource {
  std::map<std::string, KernelInfo> kernels;
  std::string text;
};

// Reads what `SaveToBytes` of TVM's OpenCL modules writes; throws if it is something else.
ModuleSource ParseModule(const char* data, size_t size);

// Returns each kernel's own source. TVM repeats declarations of all kernels in front of each, which
// makes compiling them quadratic: those are left out. A text without TVM's marks belongs to all.
std::map<std::string, std::string> SplitKernels(const ModuleSource& module);

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_SOURCE_H_
