#include "module.h"

#include <tvm/ffi/memory.h>

namespace tvm_eff {
namespace opencl {

using tvm::ffi::Bytes;
using tvm::ffi::Function;
using tvm::ffi::Module;
using tvm::ffi::String;

OpenCLModule::OpenCLModule(const Bytes& bytes)
    : bytes_(bytes.data(), bytes.size()), source_(ParseModule(bytes_.data(), bytes_.size())) {
  auto sources = SplitKernels(source_);
  for (const auto& [key, info] : source_.kernels) {
    kernels_.emplace(key, std::make_shared<Kernel>(info, sources.at(info.name)));
  }
}

Module OpenCLModule::Load(const Bytes& bytes) {
  return Module(tvm::ffi::make_object<OpenCLModule>(bytes));
}

int OpenCLModule::GetPropertyMask() const {
  return Module::kBinarySerializable | Module::kRunnable;
}

tvm::ffi::Optional<Function> OpenCLModule::GetFunction(const String& name) {
  auto found = kernels_.find(std::string(name));
  if (found == kernels_.end()) return std::nullopt;
  return Function::FromPacked([kernel = found->second](tvm::ffi::PackedArgs arguments,
                                                       tvm::ffi::Any* /*result*/) {
    kernel->Launch(arguments);
  });
}

Bytes OpenCLModule::SaveToBytes() const { return Bytes(bytes_); }

String OpenCLModule::InspectSource(const String& /*format*/) const { return source_.text; }

}  // namespace opencl
}  // namespace tvm_eff
