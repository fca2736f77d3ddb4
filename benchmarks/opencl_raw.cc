// The same launches by OpenCL's own functions, without TVM: what opencl_launch.py compares with.
#include <dlfcn.h>

#include <chrono>
#include <cstring>
#include <vector>

#include "cl.h"

namespace {

#define DECLARE(place, result, name, parameters) result(*name) parameters;
TVM_EFF_OPENCL_FUNCTIONS(DECLARE)
#undef DECLARE

cl_command_queue queue;
cl_kernel kernel;
std::vector<cl_mem> buffers;

bool TakeFunctions(const char* library, cl_platform_id* platform) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return false;
  auto address = reinterpret_cast<void* (*)(const char*)>(
      dlsym(handle, "clGetExtensionFunctionAddress"));
  if (address == nullptr) return false;
  auto platforms = reinterpret_cast<cl_int (*)(cl_uint, cl_platform_id*, cl_uint*)>(
      address("clIcdGetPlatformIDsKHR"));
  if (platforms == nullptr || platforms(1, platform, nullptr) != CL_SUCCESS) return false;
  void** table = *reinterpret_cast<void***>(*platform);
#define TAKE(place, result, name, parameters) \
  name = reinterpret_cast<decltype(name)>(table[place]);
  TVM_EFF_OPENCL_FUNCTIONS(TAKE)
#undef TAKE
  return true;
}

}  // namespace

// Returns zero if the kernel of a source could be made, with some buffers as its arguments.
extern "C" int prepare(const char* library, const char* source, const char* name, int count) {
  cl_platform_id platform;
  cl_device_id device;
  cl_int status;
  if (!TakeFunctions(library, &platform)) return 1;
  if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, nullptr) != CL_SUCCESS) return 2;
  cl_context context = clCreateContext(nullptr, 1, &device, nullptr, nullptr, &status);
  queue = clCreateCommandQueue(context, device, 0, &status);
  size_t size = std::strlen(source);
  cl_program program = clCreateProgramWithSource(context, 1, &source, &size, &status);
  if (clBuildProgram(program, 1, &device, nullptr, nullptr, nullptr) != CL_SUCCESS) return 3;
  kernel = clCreateKernel(program, name, &status);
  if (status != CL_SUCCESS) return 4;
  for (int i = 0; i < count; ++i) {
    buffers.push_back(clCreateBuffer(context, CL_MEM_READ_WRITE, 4096, nullptr, &status));
  }
  return status == CL_SUCCESS ? 0 : 5;
}

// Returns the seconds that some launches take, with all arguments set each time.
extern "C" double launch(int launches) {
  const size_t global = 64, local = 16;
  const int32_t number = 1;
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < launches; ++i) {
    cl_uint index = 0;
    for (cl_mem buffer : buffers) clSetKernelArg(kernel, index++, sizeof(buffer), &buffer);
    clSetKernelArg(kernel, index, sizeof(number), &number);
    clEnqueueNDRangeKernel(queue, kernel, 1, nullptr, &global, &local, 0, nullptr, nullptr);
  }
  clFinish(queue);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
