// TVM's module of kernels in OpenCL C.
#ifndef TVM_EFF_OPENCL_MODULE_H_
#define TVM_EFF_OPENCL_MODULE_H_

#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/string.h>

#include <map>
#include <memory>
#include <string>

#include "launch.h"
#include "source.h"

namespace tvm_eff {
namespace opencl {

class OpenCLModule final : public tvm::ffi::ModuleObj {
 public:
  explicit OpenCLModule(const tvm::ffi::Bytes& bytes);

  static tvm::ffi::Module Load(const tvm::ffi::Bytes& bytes);

  const char* kind() const final { return "opencl"; }
  int GetPropertyMask() const final;
  tvm::ffi::Optional<tvm::ffi::Function> GetFunction(const tvm::ffi::String& name) final;
  tvm::ffi::Bytes SaveToBytes() const final;
  tvm::ffi::String InspectSource(const tvm::ffi::String& format) const final;

 private:
  const std::string bytes_;
  ModuleSource source_;
  // Functions share their kernel, so that they outlive the module.
  std::map<std::string, std::shared_ptr<Kernel>> kernels_;
};

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_MODULE_H_
