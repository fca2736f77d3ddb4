#include "device_api.h"

#include <tvm/ffi/error.h>

#include <memory>
#include <vector>

#include "buffer.h"
#include "device.h"
#include "errors.h"

namespace tvm_eff {
namespace opencl {
namespace {

using tvm::runtime::DeviceAttrKind;
using tvm::runtime::DLDeviceType2Str;

thread_local int current_device = 0;

std::string Mib(size_t size) {
  return std::to_string(size) + " bytes (" + std::to_string(size >> 20) + " MiB)";
}

void CheckSize(const Device& device, size_t size, size_t alignment) {
  const Limits& limits = device.limits;
  if (alignment > limits.alignment && limits.alignment > 0) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: " << device.name << " aligns memory at "
                                << limits.alignment << " bytes; " << alignment
                                << " were asked for: use a narrower data type";
  }
  if (size > limits.allocation) {
    TVM_FFI_THROW(RuntimeError)
        << "OpenCL: out of memory: " << Mib(size) << " were asked for at once; " << device.name
        << " allows " << Mib(limits.allocation) << ": use a smaller batch or network";
  }
  size_t allocated = device.allocated.load();
  if (size > limits.global_memory || allocated > limits.global_memory - size) {
    TVM_FFI_THROW(RuntimeError)
        << "OpenCL: out of memory: " << Mib(size) << " were asked for on top of " << Mib(allocated)
        << "; " << device.name << " has " << Mib(limits.global_memory)
        << ": free tensors or use a smaller batch";
  }
}

void CheckRange(const Buffer& buffer, size_t offset, size_t size) {
  if (offset <= buffer.size && size <= buffer.size - offset) return;
  TVM_FFI_THROW(RuntimeError) << "OpenCL: copying " << size << " bytes at offset " << offset
                              << " goes beyond the end of a buffer of " << buffer.size << " bytes";
}

void Read(const Buffer& from, size_t offset, void* to, size_t size) {
  CheckRange(from, offset, size);
  Device& device = *from.device;
  Check(device.driver.clEnqueueReadBuffer(device.queue(), from.memory, CL_TRUE, offset, size, to,
                                          0, nullptr, nullptr),
        "copying from the device (clEnqueueReadBuffer)");
}

void Write(const void* from, const Buffer& to, size_t offset, size_t size) {
  CheckRange(to, offset, size);
  Device& device = *to.device;
  Check(device.driver.clEnqueueWriteBuffer(device.queue(), to.memory, CL_TRUE, offset, size, from,
                                           0, nullptr, nullptr),
        "copying to the device (clEnqueueWriteBuffer)");
}

void Copy(const Buffer& from, size_t from_offset, const Buffer& to, size_t to_offset,
          size_t size) {
  CheckRange(from, from_offset, size);
  CheckRange(to, to_offset, size);
  if (from.device != to.device) {
    // Each device has a context of its own; memory is not shared between contexts.
    std::vector<char> host(size);
    Read(from, from_offset, host.data(), size);
    Write(host.data(), to, to_offset, size);
    return;
  }
  Device& device = *from.device;
  Check(device.driver.clEnqueueCopyBuffer(device.queue(), from.memory, to.memory, from_offset,
                                          to_offset, size, 0, nullptr, nullptr),
        "copying on the device (clEnqueueCopyBuffer)");
}

bool Exists(int number) {
  try {
    return number >= 0 && static_cast<size_t>(number) < DeviceCount();
  } catch (const tvm::ffi::Error&) {
    // No driver: whoever then uses the device is told so.
    return false;
  }
}

std::string Dimensions(const Limits& limits) {
  const auto& items = limits.work_items;
  return "[" + std::to_string(items[0]) + ", " + std::to_string(items[1]) + ", " +
         std::to_string(items[2]) + "]";
}

}  // namespace

OpenCLDeviceAPI* OpenCLDeviceAPI::Global() {
  static auto* api = new OpenCLDeviceAPI();
  return api;
}

int OpenCLDeviceAPI::CurrentDevice() { return current_device; }

void OpenCLDeviceAPI::SetDevice(tvm::Device device) { current_device = device.device_id; }

void OpenCLDeviceAPI::GetAttr(tvm::Device device, DeviceAttrKind kind, tvm::ffi::Any* value) {
  if (kind == DeviceAttrKind::kExist) {
    *value = static_cast<int>(Exists(device.device_id));
    return;
  }
  const Device& found = GetDevice(device.device_id);
  const Limits& limits = found.limits;
  auto number = [value](size_t n) { *value = static_cast<int64_t>(n); };
  switch (kind) {
    case DeviceAttrKind::kMaxThreadsPerBlock:
      return number(limits.work_group);
    case DeviceAttrKind::kWarpSize:
      return number(1);
    case DeviceAttrKind::kMaxSharedMemoryPerBlock:
      return number(limits.local_memory);
    case DeviceAttrKind::kMultiProcessorCount:
      return number(limits.compute_units);
    case DeviceAttrKind::kMaxClockRate:
      return number(size_t{limits.clock_mhz} * 1000);  // TVM counts in kHz.
    case DeviceAttrKind::kL2CacheSizeBytes:
      return number(limits.cache);
    case DeviceAttrKind::kTotalGlobalMemory:
      return number(limits.global_memory);
    case DeviceAttrKind::kAvailableGlobalMemory:
      return number(limits.global_memory - found.allocated.load());
    case DeviceAttrKind::kMaxThreadDimensions:
      *value = tvm::ffi::String(Dimensions(limits));
      return;
    case DeviceAttrKind::kDeviceName:
      *value = tvm::ffi::String(found.name);
      return;
    case DeviceAttrKind::kComputeVersion:
    case DeviceAttrKind::kApiVersion:
      *value = tvm::ffi::String(found.version);
      return;
    case DeviceAttrKind::kDriverVersion:
      *value = tvm::ffi::String(found.driver_version);
      return;
    default:
      return;  // None of OpenCL's.
  }
}

void OpenCLDeviceAPI::GetTargetProperty(tvm::Device device, const std::string& property,
                                        tvm::ffi::Any* value) {
  const Limits& limits = GetDevice(device.device_id).limits;
  if (property == "max_threads_per_block" || property == "max_num_threads") {
    *value = static_cast<int64_t>(limits.work_group);
  } else if (property == "max_shared_memory_per_block") {
    *value = static_cast<int64_t>(limits.local_memory);
  } else if (property == "thread_warp_size") {
    *value = static_cast<int64_t>(1);
  }
}

void* OpenCLDeviceAPI::AllocDataSpace(tvm::Device device, size_t size, size_t alignment,
                                      DLDataType /*type*/) {
  Device& found = GetDevice(device.device_id);
  CheckSize(found, size, alignment);
  cl_context context = found.context();
  cl_int status = CL_SUCCESS;
  // OpenCL has no empty buffers, TVM has empty tensors.
  size_t there = size == 0 ? 1 : size;
  cl_mem memory =
      found.driver.clCreateBuffer(context, CL_MEM_READ_WRITE, there, nullptr, &status);
  if (status != CL_SUCCESS) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: out of memory: " << found.name << " has no room for "
                                << Mib(size) << " on top of " << Mib(found.allocated.load()) << " ("
                                << StatusName(status) << "): use a smaller batch or network";
  }
  found.allocated += there;
  return new Buffer{memory, there, &found};
}

void OpenCLDeviceAPI::FreeDataSpace(tvm::Device /*device*/, void* data) {
  if (data == nullptr || WasForked()) return;
  std::unique_ptr<Buffer> buffer(static_cast<Buffer*>(data));
  Device& device = *buffer->device;
  device.allocated -= buffer->size;
  // The driver itself waits for kernels that still use it.
  Check(device.driver.clReleaseMemObject(buffer->memory), "freeing memory (clReleaseMemObject)");
}

void OpenCLDeviceAPI::CopyDataFromTo(const void* from, size_t from_offset, void* to,
                                     size_t to_offset, size_t size, tvm::Device from_device,
                                     tvm::Device to_device, DLDataType /*type*/,
                                     TVMStreamHandle /*stream*/) {
  if (size == 0) return;
  bool from_opencl = from_device.device_type == kDLOpenCL;
  bool to_opencl = to_device.device_type == kDLOpenCL;
  if (from_opencl && to_opencl) {
    Copy(*static_cast<const Buffer*>(from), from_offset, *static_cast<const Buffer*>(to),
         to_offset, size);
  } else if (from_opencl && to_device.device_type == kDLCPU) {
    Read(*static_cast<const Buffer*>(from), from_offset, static_cast<char*>(to) + to_offset, size);
  } else if (to_opencl && from_device.device_type == kDLCPU) {
    Write(static_cast<const char*>(from) + from_offset, *static_cast<const Buffer*>(to), to_offset,
          size);
  } else {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: cannot copy from a device of the type '"
                                << DLDeviceType2Str(from_device.device_type) << "' to '"
                                << DLDeviceType2Str(to_device.device_type)
                                << "'; copy through the host";
  }
}

void OpenCLDeviceAPI::StreamSync(tvm::Device device, TVMStreamHandle /*stream*/) {
  GetDevice(device.device_id).Synchronize();
}

}  // namespace opencl
}  // namespace tvm_eff
