#include "launch.h"

#include <tvm/ffi/dtype.h>
#include <tvm/ffi/error.h>

#include <algorithm>

#include "buffer.h"
#include "device_api.h"
#include "errors.h"
#include "half.h"
#include "program.h"

namespace tvm_eff {
namespace opencl {
namespace {

constexpr int kFirstThread = 3;
constexpr int kDynamicLocal = 6;

int PlaceOf(const std::string& tag, const std::string& kernel) {
  if (tag == "tirx.use_dyn_shared_memory") return kDynamicLocal;
  for (const char* prefix : {"blockIdx.", "threadIdx."}) {
    const std::string start = prefix;
    if (tag.size() != start.size() + 1 || tag.compare(0, start.size(), start) != 0) continue;
    int axis = tag.back() - 'x';
    if (axis >= 0 && axis < 3) return axis + (start[0] == 'b' ? 0 : kFirstThread);
  }
  TVM_FFI_THROW(RuntimeError) << "OpenCL: the kernel '" << kernel << "' asks for '" << tag
                              << "', which OpenCL has not; schedule it without";
  TVM_FFI_UNREACHABLE();
}

std::string Times(const std::array<size_t, 3>& sizes) {
  return std::to_string(sizes[0]) + "x" + std::to_string(sizes[1]) + "x" +
         std::to_string(sizes[2]);
}

}  // namespace

Kernel::Kernel(KernelInfo info, std::string source)
    : info_(std::move(info)), source_(std::move(source)) {
  for (const DLDataType& type : info_.argument_types) kinds_.push_back(KindOf(type, info_.name));
  for (const std::string& tag : info_.launch_tags) {
    int place = PlaceOf(tag, info_.name);
    places_.push_back(place);
    if (place < kDynamicLocal) {
      dimensions_ = std::max(dimensions_, static_cast<cl_uint>(place % kFirstThread + 1));
    }
  }
}

Kernel::~Kernel() {
  if (WasForked()) return;
  for (auto& [number, built] : built_) built.device->driver.clReleaseKernel(built.handle);
}

Kernel::Kind Kernel::KindOf(const DLDataType& type, const std::string& kernel) {
  if (type.lanes == 1) {
    if (type.code == kDLOpaqueHandle) return Kind::kBuffer;
    if (type.code == kDLInt || type.code == kDLUInt || type.code == kDLBool) {
      if (type.bits <= 8) return Kind::kInt8;
      if (type.bits == 16) return Kind::kInt16;
      if (type.bits == 32) return Kind::kInt32;
      if (type.bits == 64) return Kind::kInt64;
    }
    if (type.code == kDLFloat && type.bits == 16) return Kind::kHalf;
    if (type.code == kDLFloat && type.bits == 32) return Kind::kFloat;
    if (type.code == kDLFloat && type.bits == 64) return Kind::kDouble;
  }
  TVM_FFI_THROW(RuntimeError) << "OpenCL: the kernel '" << kernel
                              << "' takes an argument of the type "
                              << tvm::ffi::DLDataTypeToString(type)
                              << ", which cannot be given to an OpenCL kernel";
  TVM_FFI_UNREACHABLE();
}

Kernel::Built& Kernel::BuiltFor(int device) {
  for (auto& [number, built] : built_) {
    if (number == device) return built;
  }
  Device& found = GetDevice(device);
  Built built{&found, BuildKernel(found, info_.name, source_), 0, 0, 0};
  const Driver& driver = found.driver;
  cl_ulong local_memory = 0;
  Check(driver.clGetKernelWorkGroupInfo(built.handle, found.id, CL_KERNEL_WORK_GROUP_SIZE,
                                        sizeof(size_t), &built.work_group, nullptr),
        "asking for a kernel's largest work-group");
  Check(driver.clGetKernelWorkGroupInfo(built.handle, found.id, CL_KERNEL_LOCAL_MEM_SIZE,
                                        sizeof(local_memory), &local_memory, nullptr),
        "asking for a kernel's local memory");
  Check(driver.clGetKernelInfo(built.handle, CL_KERNEL_NUM_ARGS, sizeof(cl_uint), &built.arguments,
                               nullptr),
        "asking for a kernel's arguments");
  built.local_memory = static_cast<size_t>(local_memory);
  return built_.emplace_back(device, built).second;
}

Kernel::Shape Kernel::ReadShape(const TVMFFIAny* extents) const {
  Shape shape;
  shape.dimensions = dimensions_;
  for (size_t i = 0; i < places_.size(); ++i) {
    const int place = places_[i];
    const int64_t extent = extents[i].v_int64;
    if (extent < 0) {
      TVM_FFI_THROW(RuntimeError) << "OpenCL: the kernel '" << info_.name << "' is called with "
                                  << info_.launch_tags[i] << " = " << extent;
    }
    const auto size = static_cast<size_t>(extent);
    if (place == kDynamicLocal) {
      shape.dynamic_local = size;
    } else {
      (place < kFirstThread ? shape.global : shape.local)[place % kFirstThread] = size;
    }
  }
  for (int axis = 0; axis < 3; ++axis) shape.global[axis] *= shape.local[axis];
  return shape;
}

void Kernel::CheckShape(const Built& built, const Shape& shape) const {
  const Limits& limits = built.device->limits;
  const auto& local = shape.local;
  const size_t group = local[0] * local[1] * local[2];
  const bool too_long = local[0] > limits.work_items[0] || local[1] > limits.work_items[1] ||
                        local[2] > limits.work_items[2];
  if (group > built.work_group || too_long) {
    TVM_FFI_THROW(RuntimeError)
        << "OpenCL: the kernel '" << info_.name << "' asks for work-groups of " << Times(local)
        << " = " << group << " work-items; " << built.device->name << " allows "
        << limits.work_group << " (" << Times(limits.work_items) << "), and " << built.work_group
        << " for this kernel: build it for a target whose max_num_threads is no larger";
  }
  const size_t local_memory = built.local_memory + shape.dynamic_local;
  if (local_memory > limits.local_memory) {
    TVM_FFI_THROW(RuntimeError)
        << "OpenCL: the kernel '" << info_.name << "' asks for " << local_memory
        << " bytes of local memory; " << built.device->name << " has " << limits.local_memory
        << ": build it for a target whose max_shared_memory_per_block is no larger";
  }
}

void Kernel::SetArguments(const Built& built, const TVMFFIAny* arguments,
                          const Shape& shape) const {
  const Driver& driver = built.device->driver;
  for (size_t i = 0; i < kinds_.size(); ++i) {
    const TVMFFIAny& given = arguments[i];
    auto set = [&](auto value) {
      cl_int status =
          driver.clSetKernelArg(built.handle, static_cast<cl_uint>(i), sizeof(value), &value);
      if (status != CL_SUCCESS) {
        Fail("setting argument " + std::to_string(i) + " of the kernel '" + info_.name + "'",
             status);
      }
    };
    switch (kinds_[i]) {
      case Kind::kBuffer: {
        const auto* buffer = static_cast<const Buffer*>(given.v_ptr);
        if (buffer != nullptr && buffer->device != built.device) {
          TVM_FFI_THROW(RuntimeError)
              << "OpenCL: argument " << i << " of the kernel '" << info_.name << "' lies on "
              << buffer->device->name << ", but the kernel runs on " << built.device->name;
        }
        set(buffer == nullptr ? cl_mem{nullptr} : buffer->memory);
        break;
      }
      case Kind::kInt8:
        set(static_cast<int8_t>(given.v_int64));
        break;
      case Kind::kInt16:
        set(static_cast<int16_t>(given.v_int64));
        break;
      case Kind::kInt32:
        set(static_cast<int32_t>(given.v_int64));
        break;
      case Kind::kInt64:
        set(given.v_int64);
        break;
      case Kind::kHalf:
        set(HalfBits(given.v_float64));
        break;
      case Kind::kFloat:
        set(static_cast<float>(given.v_float64));
        break;
      case Kind::kDouble:
        set(given.v_float64);
        break;
    }
  }
  // TVM passes the size of dynamic local memory; OpenCL wants it as the last argument.
  if (shape.dynamic_local > 0 && built.arguments == kinds_.size() + 1) {
    Check(driver.clSetKernelArg(built.handle, static_cast<cl_uint>(kinds_.size()),
                                shape.dynamic_local, nullptr),
          "setting the size of local memory");
  }
}

void Kernel::Launch(tvm::ffi::PackedArgs arguments) {
  const size_t wanted = kinds_.size() + places_.size();
  if (static_cast<size_t>(arguments.size()) != wanted) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: the kernel '" << info_.name << "' takes " << wanted
                                << " arguments and extents; it was called with "
                                << arguments.size();
  }
  const auto* raw = reinterpret_cast<const TVMFFIAny*>(arguments.data());
  const Shape shape = ReadShape(raw + kinds_.size());
  // A tensor without elements has nothing to compute, and OpenCL no empty range.
  if (shape.global[0] * shape.global[1] * shape.global[2] == 0) return;
  CheckNotForked();
  std::lock_guard<std::mutex> lock(mutex_);
  const Built& built = BuiltFor(OpenCLDeviceAPI::CurrentDevice());
  CheckShape(built, shape);
  SetArguments(built, raw, shape);
  built.device->Enqueue(built.handle, shape.dimensions, shape.global.data(), shape.local.data());
}

}  // namespace opencl
}  // namespace tvm_eff
