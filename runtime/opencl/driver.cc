#include "driver.h"

#include <dlfcn.h>
#include <tvm/ffi/error.h>

#include <cstdlib>
#include <iterator>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>

#include "errors.h"

namespace tvm_eff {
namespace opencl {
namespace {

// Paths with colons between: what is opened instead of the usual libraries.
constexpr const char* kNamed = "TVM_EFF_OPENCL_LIBRARY";
// What is tried after the usual ones, such as software devices of packages.
constexpr const char* kFallback = "TVM_EFF_OPENCL_FALLBACK";

// Boards have Arm's driver alone, with or without the loader that Khronos and Debian have.
constexpr const char* kUsual[] = {
    "libOpenCL.so.1",
    "libOpenCL.so",
    "libmali.so.1",
    "libmali.so",
    "/usr/lib/aarch64-linux-gnu/libmali.so.1",
    "/usr/lib/arm-linux-gnueabihf/libmali.so.1",
    "/vendor/lib64/libOpenCL.so",
    "/vendor/lib64/egl/libGLES_mali.so",
    "/vendor/lib/libOpenCL.so",
};

std::vector<std::string> Paths(const char* variable) {
  const char* value = std::getenv(variable);
  std::vector<std::string> paths;
  std::istringstream text(value == nullptr ? "" : value);
  for (std::string path; std::getline(text, path, ':');) {
    if (!path.empty()) paths.push_back(path);
  }
  return paths;
}

template <typename Function>
bool Find(void* handle, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  return *function != nullptr;
}

// A loader, or a driver that can do without one.
std::optional<std::string> FindFunctions(void* handle, Driver* driver) {
#define TVM_EFF_OPENCL_FIND(place, result, name, parameters) \
  if (!Find(handle, #name, &driver->name)) return "it has no function " #name;
  TVM_EFF_OPENCL_FUNCTIONS(TVM_EFF_OPENCL_FIND)
#undef TVM_EFF_OPENCL_FIND
  cl_uint count = 0;
  cl_int status = driver->clGetPlatformIDs(0, nullptr, &count);
  if (status != CL_SUCCESS || count == 0) {
    return "no platform, that is, no driver for a device (" + StatusName(status) + ")";
  }
  driver->platforms.resize(count);
  status = driver->clGetPlatformIDs(count, driver->platforms.data(), nullptr);
  if (status != CL_SUCCESS) return StatusName(status);
  return std::nullopt;
}

// A driver that is made for a loader, which this does the work of (the extension cl_khr_icd).
std::optional<std::string> FindDispatchTable(void* handle, Driver* driver) {
  using Platforms = cl_int (*)(cl_uint, cl_platform_id*, cl_uint*);
  void* (*address)(const char*) = nullptr;
  if (!Find(handle, "clGetExtensionFunctionAddress", &address)) return "it is no OpenCL library";
  auto platforms = reinterpret_cast<Platforms>(address("clIcdGetPlatformIDsKHR"));
  if (platforms == nullptr) return "it is neither a loader nor a driver for one";
  cl_uint count = 0;
  cl_int status = platforms(0, nullptr, &count);
  if (status != CL_SUCCESS || count == 0) return "no platform (" + StatusName(status) + ")";
  driver->platforms.resize(count);
  status = platforms(count, driver->platforms.data(), nullptr);
  if (status != CL_SUCCESS) return StatusName(status);
  void** table = *reinterpret_cast<void***>(driver->platforms[0]);
#define TVM_EFF_OPENCL_TAKE(place, result, name, parameters) \
  driver->name = reinterpret_cast<decltype(driver->name)>(table[place]);
  TVM_EFF_OPENCL_FUNCTIONS(TVM_EFF_OPENCL_TAKE)
#undef TVM_EFF_OPENCL_TAKE
  return std::nullopt;
}

// Returns what is wrong with the library; nothing if it can be used.
std::optional<std::string> Open(const std::string& library, Driver* driver) {
  driver->library = library;
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return std::string(dlerror());
  const bool complete = dlsym(handle, "clGetPlatformIDs") != nullptr;
  auto wrong = complete ? FindFunctions(handle, driver) : FindDispatchTable(handle, driver);
  if (wrong) return library + ": " + *wrong;
  return std::nullopt;
}

using Drivers = std::vector<std::unique_ptr<const Driver>>;

// Opens the libraries in turn until there are enough that can be used.
Drivers OpenSome(const std::vector<std::string>& libraries, size_t enough, std::string* tried) {
  Drivers drivers;
  for (const std::string& library : libraries) {
    if (drivers.size() == enough) break;
    auto driver = std::make_unique<Driver>();
    std::optional<std::string> wrong = Open(library, driver.get());
    if (wrong) {
      *tried += "\n  " + *wrong;
    } else {
      drivers.push_back(std::move(driver));
    }
  }
  return drivers;
}

Drivers OpenAll() {
  std::string tried;
  std::vector<std::string> named = Paths(kNamed);
  std::vector<std::string> usual(std::begin(kUsual), std::end(kUsual));
  for (std::string& path : Paths(kFallback)) usual.push_back(std::move(path));
  Drivers drivers =
      named.empty() ? OpenSome(usual, 1, &tried) : OpenSome(named, named.size(), &tried);
  if (drivers.empty()) {
    TVM_FFI_THROW(RuntimeError)
        << "no OpenCL driver was found. On a Mali board install its vendor's driver (libmali); "
           "elsewhere a software device does: pip install pocl-binary-distribution. A library in "
           "another place is named by the variable "
        << kNamed << ". Tried:" << tried;
  }
  return drivers;
}

}  // namespace

const Drivers& GetDrivers() {
  static std::mutex mutex;
  // Never freed: drivers have threads of their own that outlive static objects.
  static const Drivers* opened = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (opened == nullptr) opened = new Drivers(OpenAll());
  return *opened;
}

}  // namespace opencl
}  // namespace tvm_eff
