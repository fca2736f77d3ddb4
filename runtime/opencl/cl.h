// The part of OpenCL 1.2 that is used here, so that nothing of OpenCL is needed to compile.
// Names and values are Khronos'.
#ifndef TVM_EFF_OPENCL_CL_H_
#define TVM_EFF_OPENCL_CL_H_

#include <cstddef>
#include <cstdint>

using cl_int = int32_t;
using cl_uint = uint32_t;
using cl_ulong = uint64_t;
using cl_bool = cl_uint;
using cl_bitfield = cl_ulong;

using cl_platform_id = struct _cl_platform_id*;
using cl_device_id = struct _cl_device_id*;
using cl_context = struct _cl_context*;
using cl_command_queue = struct _cl_command_queue*;
using cl_mem = struct _cl_mem*;
using cl_program = struct _cl_program*;
using cl_kernel = struct _cl_kernel*;
using cl_event = struct _cl_event*;

constexpr cl_int CL_SUCCESS = 0;
constexpr cl_int CL_DEVICE_NOT_FOUND = -1;
constexpr cl_int CL_MEM_OBJECT_ALLOCATION_FAILURE = -4;
constexpr cl_int CL_OUT_OF_RESOURCES = -5;
constexpr cl_int CL_OUT_OF_HOST_MEMORY = -6;
constexpr cl_int CL_PLATFORM_NOT_FOUND_KHR = -1001;

constexpr cl_bool CL_TRUE = 1;
constexpr cl_bitfield CL_DEVICE_TYPE_CPU = 1 << 1;
constexpr cl_bitfield CL_DEVICE_TYPE_GPU = 1 << 2;
constexpr cl_bitfield CL_DEVICE_TYPE_ALL = 0xFFFFFFFF;
constexpr cl_bitfield CL_MEM_READ_WRITE = 1 << 0;
constexpr cl_bitfield CL_QUEUE_PROFILING_ENABLE = 1 << 1;

constexpr cl_uint CL_PLATFORM_VERSION = 0x0901;
constexpr cl_uint CL_PLATFORM_NAME = 0x0902;

constexpr cl_uint CL_DEVICE_TYPE = 0x1000;
constexpr cl_uint CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002;
constexpr cl_uint CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS = 0x1003;
constexpr cl_uint CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004;
constexpr cl_uint CL_DEVICE_MAX_WORK_ITEM_SIZES = 0x1005;
constexpr cl_uint CL_DEVICE_MAX_CLOCK_FREQUENCY = 0x100C;
constexpr cl_uint CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010;
constexpr cl_uint CL_DEVICE_MEM_BASE_ADDR_ALIGN = 0x1019;
constexpr cl_uint CL_DEVICE_GLOBAL_MEM_CACHE_SIZE = 0x101E;
constexpr cl_uint CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F;
constexpr cl_uint CL_DEVICE_LOCAL_MEM_SIZE = 0x1023;
constexpr cl_uint CL_DEVICE_NAME = 0x102B;
constexpr cl_uint CL_DRIVER_VERSION = 0x102D;
constexpr cl_uint CL_DEVICE_VERSION = 0x102F;
constexpr cl_uint CL_DEVICE_EXTENSIONS = 0x1030;

constexpr cl_uint CL_PROGRAM_BINARY_SIZES = 0x1165;
constexpr cl_uint CL_PROGRAM_BINARIES = 0x1166;
constexpr cl_uint CL_PROGRAM_BUILD_LOG = 0x1183;
constexpr cl_uint CL_KERNEL_NUM_ARGS = 0x1191;
constexpr cl_uint CL_KERNEL_WORK_GROUP_SIZE = 0x11B0;
constexpr cl_uint CL_KERNEL_LOCAL_MEM_SIZE = 0x11B2;
constexpr cl_uint CL_PROFILING_COMMAND_START = 0x1282;
constexpr cl_uint CL_PROFILING_COMMAND_END = 0x1283;

// X(place, result, function, parameters): all that is called. The place is the one in the table of
// functions that each object of a driver starts with (cl_khr_icd).
#define TVM_EFF_OPENCL_FUNCTIONS(X)                                                               \
  X(0, cl_int, clGetPlatformIDs, (cl_uint, cl_platform_id*, cl_uint*))                            \
  X(1, cl_int, clGetPlatformInfo, (cl_platform_id, cl_uint, size_t, void*, size_t*))              \
  X(2, cl_int, clGetDeviceIDs, (cl_platform_id, cl_bitfield, cl_uint, cl_device_id*, cl_uint*))   \
  X(3, cl_int, clGetDeviceInfo, (cl_device_id, cl_uint, size_t, void*, size_t*))                  \
  X(4, cl_context, clCreateContext,                                                               \
    (const intptr_t*, cl_uint, const cl_device_id*, void (*)(const char*, const void*,            \
     size_t, void*), void*, cl_int*))                                                             \
  X(9, cl_command_queue, clCreateCommandQueue, (cl_context, cl_device_id, cl_bitfield, cl_int*))  \
  X(14, cl_mem, clCreateBuffer, (cl_context, cl_bitfield, size_t, void*, cl_int*))                \
  X(18, cl_int, clReleaseMemObject, (cl_mem))                                                     \
  X(48, cl_int, clEnqueueReadBuffer,                                                              \
    (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void*, cl_uint, const cl_event*,          \
     cl_event*))                                                                                  \
  X(49, cl_int, clEnqueueWriteBuffer,                                                             \
    (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void*, cl_uint, const               \
     cl_event*, cl_event*))                                                                       \
  X(50, cl_int, clEnqueueCopyBuffer,                                                              \
    (cl_command_queue, cl_mem, cl_mem, size_t, size_t, size_t, cl_uint, const cl_event*,          \
     cl_event*))                                                                                  \
  X(47, cl_int, clFinish, (cl_command_queue))                                                     \
  X(26, cl_program, clCreateProgramWithSource,                                                    \
    (cl_context, cl_uint, const char**, const size_t*, cl_int*))                                  \
  X(27, cl_program, clCreateProgramWithBinary,                                                    \
    (cl_context, cl_uint, const cl_device_id*, const size_t*, const unsigned char**, cl_int*,     \
     cl_int*))                                                                                    \
  X(30, cl_int, clBuildProgram,                                                                   \
    (cl_program, cl_uint, const cl_device_id*, const char*, void (*)(cl_program, void*),          \
     void*))                                                                                      \
  X(32, cl_int, clGetProgramInfo, (cl_program, cl_uint, size_t, void*, size_t*))                  \
  X(33, cl_int, clGetProgramBuildInfo,                                                            \
    (cl_program, cl_device_id, cl_uint, size_t, void*, size_t*))                                  \
  X(29, cl_int, clReleaseProgram, (cl_program))                                                   \
  X(34, cl_kernel, clCreateKernel, (cl_program, const char*, cl_int*))                            \
  X(39, cl_int, clGetKernelInfo, (cl_kernel, cl_uint, size_t, void*, size_t*))                    \
  X(40, cl_int, clGetKernelWorkGroupInfo,                                                         \
    (cl_kernel, cl_device_id, cl_uint, size_t, void*, size_t*))                                   \
  X(38, cl_int, clSetKernelArg, (cl_kernel, cl_uint, size_t, const void*))                        \
  X(37, cl_int, clReleaseKernel, (cl_kernel))                                                     \
  X(59, cl_int, clEnqueueNDRangeKernel,                                                           \
    (cl_command_queue, cl_kernel, cl_uint, const size_t*, const size_t*, const size_t*,           \
     cl_uint, const cl_event*, cl_event*))                                                        \
  X(45, cl_int, clGetEventProfilingInfo, (cl_event, cl_uint, size_t, void*, size_t*))             \
  X(44, cl_int, clReleaseEvent, (cl_event))

#endif  // TVM_EFF_OPENCL_CL_H_
