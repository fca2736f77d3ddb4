// What makes this library a plug-in: its functions in TVM's registry, if the versions fit.
#include <dlfcn.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <fstream>
#include <string>

#include "device.h"
#include "device_api.h"
#include "module.h"
#include "program.h"
#include "timer.h"

#ifndef TVM_EFF_TVM_VERSION
#error "name the version of the TVM wheel: -DTVM_EFF_TVM_VERSION=\"0.27.0.post1\""
#endif

namespace tvm_eff {
namespace opencl {
namespace {

using tvm::ffi::Any;
using tvm::ffi::Map;
using tvm::ffi::String;

// The version of the TVM in this process by the file that its wheel puts beside the library; empty
// where there is no wheel.
std::string WheelVersion() {
  Dl_info info;
  auto* known = reinterpret_cast<void*>(&tvm::runtime::DeviceAPI::Get);
  if (dladdr(known, &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string library = info.dli_fname;
  const std::string folder = library.substr(0, library.find_last_of('/') + 1);
  std::ifstream file(folder + "../_version.py");
  const std::string assigns = "__version__ = version = '";
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, assigns.size(), assigns) != 0) continue;
    return line.substr(assigns.size(), line.find('\'', assigns.size()) - assigns.size());
  }
  return "";
}

std::string FfiVersion(const TVMFFIVersion& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.patch);
}

// Returns why the plug-in cannot work in this process; an empty text if it can. It relies on the
// layout of TVM's classes and on the bytes of its modules, which differ between versions.
std::string Misfit() {
  std::string wheel = WheelVersion();
  if (!wheel.empty() && wheel != TVM_EFF_TVM_VERSION) {
    return "the OpenCL plug-in was built for TVM " TVM_EFF_TVM_VERSION ", and this is TVM " + wheel;
  }
  const TVMFFIVersion built = {TVM_FFI_VERSION_MAJOR, TVM_FFI_VERSION_MINOR,
                               TVM_FFI_VERSION_PATCH};
  TVMFFIVersion here;
  TVMFFIGetVersion(&here);
  if (FfiVersion(built) != FfiVersion(here)) {
    return "the OpenCL plug-in was built for tvm_ffi " + FfiVersion(built) + ", and this is " +
           FfiVersion(here);
  }
  return "";
}

void CheckFits() {
  static const std::string misfit = Misfit();
  if (misfit.empty()) return;
  TVM_FFI_THROW(RuntimeError) << misfit
                              << "; build it again with: tvm-eff opencl-plugin";
}

Map<String, Any> Describe(int number) {
  const Device& device = GetDevice(number);
  const Limits& limits = device.limits;
  return {
      {"library", String(device.driver.library)},
      {"platform", String(device.platform)},
      {"name", String(device.name)},
      {"version", String(device.version)},
      {"driver_version", String(device.driver_version)},
      {"extensions", String(device.extensions)},
      {"is_cpu", device.type == CL_DEVICE_TYPE_CPU},
      {"compute_units", static_cast<int64_t>(limits.compute_units)},
      {"clock_mhz", static_cast<int64_t>(limits.clock_mhz)},
      {"work_group", static_cast<int64_t>(limits.work_group)},
      {"local_memory", static_cast<int64_t>(limits.local_memory)},
      {"global_memory", static_cast<int64_t>(limits.global_memory)},
      {"allocation", static_cast<int64_t>(limits.allocation)},
      {"alignment", static_cast<int64_t>(limits.alignment)},
      {"cache", static_cast<int64_t>(limits.cache)},
      {"allocated", static_cast<int64_t>(device.allocated.load())},
  };
}

// One of the above, for clients over RPC, which cannot be sent a map.
Any Attribute(int number, const String& name) {
  Map<String, Any> all = Describe(number);
  auto found = all.find(name);
  if (found == all.end()) TVM_FFI_THROW(KeyError) << "an OpenCL device has no '" << name << "'";
  return (*found).second;
}

// Returns why the driver cannot compile the simplest kernel; an empty text if it can. PoCL cannot
// for a processor that is newer than its LLVM.
String Trouble(int number) {
  Device& device = GetDevice(number);
  try {
    device.driver.clReleaseKernel(BuildKernel(device, "nothing", "__kernel void nothing() {}"));
  } catch (const tvm::ffi::Error& error) {
    return error.message();
  }
  return "";
}

TVM_FFI_STATIC_INIT_BLOCK() {
  // Loaded twice, from two places: the first one stays.
  if (tvm::ffi::Function::GetGlobal("device_api.opencl").has_value()) return;
  tvm::ffi::reflection::GlobalDef()
      .def("device_api.opencl",
           []() -> void* {
             CheckFits();
             return static_cast<tvm::runtime::DeviceAPI*>(OpenCLDeviceAPI::Global());
           })
      .def("ffi.Module.load_from_bytes.opencl",
           [](const tvm::ffi::Bytes& bytes) {
             CheckFits();
             return OpenCLModule::Load(bytes);
           })
      .def("runtime.timer.opencl",
           [](DLDevice device) {
             return tvm::runtime::Timer(
                 tvm::ffi::make_object<OpenCLTimer>(&GetDevice(device.device_id)));
           })
      .def("tvm_eff.opencl.count", [] { return static_cast<int64_t>(DeviceCount()); })
      .def("tvm_eff.opencl.describe", Describe)
      .def("tvm_eff.opencl.attribute", Attribute)
      .def("tvm_eff.opencl.trouble", Trouble);
}

}  // namespace
}  // namespace opencl
}  // namespace tvm_eff
