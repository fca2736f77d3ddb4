#include "program.h"

#include <tvm/ffi/error.h>

#include <vector>

#include "errors.h"
#include "program_cache.h"

namespace tvm_eff {
namespace opencl {
namespace {

constexpr const char* kOptions = "-cl-std=CL1.2";
constexpr size_t kLongestLog = 8000;

class Program {
 public:
  Program(Device& device, cl_program program) : device_(device), program_(program) {}
  Program(const Program&) = delete;
  ~Program() { device_.driver.clReleaseProgram(program_); }

  cl_int Build() {
    return device_.driver.clBuildProgram(program_, 1, &device_.id, kOptions, nullptr, nullptr);
  }

  std::string Log() {
    size_t size = 0;
    const Driver& driver = device_.driver;
    driver.clGetProgramBuildInfo(program_, device_.id, CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
    std::string log(size, '\0');
    driver.clGetProgramBuildInfo(program_, device_.id, CL_PROGRAM_BUILD_LOG, size, log.data(),
                                 nullptr);
    log.resize(log.find_last_not_of(std::string("\0 \n", 3)) + 1);
    return log.size() <= kLongestLog ? log : log.substr(0, kLongestLog) + "\n...";
  }

  std::string Binary() {
    size_t size = 0;
    const Driver& driver = device_.driver;
    Check(driver.clGetProgramInfo(program_, CL_PROGRAM_BINARY_SIZES, sizeof(size), &size, nullptr),
          "asking for the size of a program");
    std::string binary(size, '\0');
    char* data = binary.data();
    Check(driver.clGetProgramInfo(program_, CL_PROGRAM_BINARIES, sizeof(data), &data, nullptr),
          "asking for the binary of a program");
    return binary;
  }

  // Returns null if the program has no such kernel.
  cl_kernel Kernel(const std::string& name, cl_int* status) {
    return device_.driver.clCreateKernel(program_, name.c_str(), status);
  }

 private:
  Device& device_;
  cl_program program_;
};

std::string CacheKey(const Device& device, const std::string& source) {
  std::string key;
  for (const std::string& part : {device.platform, device.name, device.version,
                                  device.driver_version, std::string(kOptions), source}) {
    key += part + '\0';
  }
  return key;
}

// Returns null if the driver does not take the binary.
cl_kernel FromBinary(Device& device, const std::string& name, const std::string& binary) {
  const auto* data = reinterpret_cast<const unsigned char*>(binary.data());
  size_t size = binary.size();
  cl_int status = CL_SUCCESS, loaded = CL_SUCCESS;
  cl_program handle = device.driver.clCreateProgramWithBinary(device.context(), 1, &device.id,
                                                              &size, &data, &loaded, &status);
  if (handle == nullptr) return nullptr;
  Program program(device, handle);
  if (status != CL_SUCCESS || loaded != CL_SUCCESS) return nullptr;
  if (program.Build() != CL_SUCCESS) return nullptr;
  cl_kernel kernel = program.Kernel(name, &status);
  return status == CL_SUCCESS ? kernel : nullptr;
}

cl_kernel FromSource(Device& device, const std::string& name, const std::string& source,
                     std::string* binary) {
  const char* text = source.data();
  size_t size = source.size();
  cl_int status = CL_SUCCESS;
  cl_program handle =
      device.driver.clCreateProgramWithSource(device.context(), 1, &text, &size, &status);
  Check(status, "clCreateProgramWithSource");
  Program program(device, handle);
  status = program.Build();
  if (status != CL_SUCCESS) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: the kernel '" << name << "' does not compile for "
                                << device.name << " (" << StatusName(status)
                                << "). The compiler said:\n"
                                << program.Log();
  }
  cl_kernel kernel = program.Kernel(name, &status);
  if (status != CL_SUCCESS) Fail("making the kernel '" + name + "'", status);
  *binary = program.Binary();
  return kernel;
}

}  // namespace

cl_kernel BuildKernel(Device& device, const std::string& name, const std::string& source) {
  device.context();
  const std::string key = CacheKey(device, source);
  if (auto cached = ReadCachedProgram(key)) {
    if (cl_kernel kernel = FromBinary(device, name, *cached)) return kernel;
  }
  std::string binary;
  cl_kernel kernel = FromSource(device, name, source, &binary);
  WriteCachedProgram(key, binary);
  return kernel;
}

}  // namespace opencl
}  // namespace tvm_eff
