#include "device.h"

#include <pthread.h>
#include <tvm/ffi/error.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include "errors.h"

namespace tvm_eff {
namespace opencl {
namespace {

// Names the platforms that count, by a part of their name.
constexpr const char* kPlatformVariable = "TVM_EFF_OPENCL_PLATFORM";

std::atomic<bool> forked{false};

template <typename T>
T DeviceNumber(const Driver& driver, cl_device_id id, cl_uint what) {
  T value{};
  Check(driver.clGetDeviceInfo(id, what, sizeof(T), &value, nullptr), "clGetDeviceInfo");
  return value;
}

// A size in bytes, which on a 32-bit board may be more than a pointer can count.
size_t DeviceSize(const Driver& driver, cl_device_id id, cl_uint what) {
  const auto size = DeviceNumber<cl_ulong>(driver, id, what);
  return static_cast<size_t>(std::min<cl_ulong>(size, std::numeric_limits<size_t>::max()));
}

template <typename Get, typename Handle>
std::string Text(Get get, Handle handle, cl_uint what) {
  size_t size = 0;
  Check(get(handle, what, 0, nullptr, &size), "asking for the length of a name");
  std::string text(size, '\0');
  Check(get(handle, what, size, text.data(), nullptr), "asking for a name");
  text.resize(text.find_last_not_of(std::string("\0 \n", 3)) + 1);
  return text;
}

Limits ReadLimits(const Driver& driver, cl_device_id id) {
  Limits limits;
  limits.work_group = DeviceNumber<size_t>(driver, id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
  limits.allocation = DeviceSize(driver, id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  limits.alignment = DeviceNumber<cl_uint>(driver, id, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8;
  limits.global_memory = DeviceSize(driver, id, CL_DEVICE_GLOBAL_MEM_SIZE);
  limits.local_memory = DeviceSize(driver, id, CL_DEVICE_LOCAL_MEM_SIZE);
  limits.cache = DeviceSize(driver, id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE);
  limits.compute_units = DeviceNumber<cl_uint>(driver, id, CL_DEVICE_MAX_COMPUTE_UNITS);
  limits.clock_mhz = DeviceNumber<cl_uint>(driver, id, CL_DEVICE_MAX_CLOCK_FREQUENCY);
  auto dimensions = DeviceNumber<cl_uint>(driver, id, CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS);
  std::vector<size_t> sizes(std::max<size_t>(dimensions, 3), 1);
  Check(driver.clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizes.size() * sizeof(size_t),
                               sizes.data(), nullptr),
        "clGetDeviceInfo");
  std::copy_n(sizes.begin(), 3, limits.work_items.begin());
  return limits;
}

bool Wanted(const std::string& platform) {
  const char* part = std::getenv(kPlatformVariable);
  return part == nullptr || platform.find(part) != std::string::npos;
}

void AddDevices(const Driver& driver, cl_platform_id platform,
                std::vector<std::unique_ptr<Device>>* devices) {
  cl_uint count = 0;
  cl_int status = driver.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count);
  // A driver that is installed where its hardware is missing has no device.
  if (status != CL_SUCCESS || count == 0) return;
  std::vector<cl_device_id> ids(count);
  Check(driver.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, count, ids.data(), nullptr),
        "clGetDeviceIDs");
  for (cl_device_id id : ids) devices->push_back(std::make_unique<Device>(driver, platform, id));
}

std::string NoDevice() {
  std::string text = "OpenCL: there is no device";
  const char* part = std::getenv(kPlatformVariable);
  if (part != nullptr) text += std::string(" on a platform named '") + part + "' (" + kPlatformVariable + ")";
  text += "; the platforms are:";
  for (const auto& driver : GetDrivers()) {
    for (cl_platform_id platform : driver->platforms) {
      text += "\n  " + Text(driver->clGetPlatformInfo, platform, CL_PLATFORM_NAME) + " of " +
              driver->library;
    }
  }
  return text + "\nOn a board, look whether /dev/mali0 exists and whether you may read it.";
}

std::vector<std::unique_ptr<Device>> FindDevices() {
  std::vector<std::unique_ptr<Device>> devices;
  for (const auto& driver : GetDrivers()) {
    for (cl_platform_id platform : driver->platforms) {
      if (!Wanted(Text(driver->clGetPlatformInfo, platform, CL_PLATFORM_NAME))) continue;
      AddDevices(*driver, platform, &devices);
    }
  }
  if (devices.empty()) TVM_FFI_THROW(RuntimeError) << NoDevice();
  // Loaders list platforms in the order of a folder's files, which is none.
  std::stable_sort(devices.begin(), devices.end(), [](const auto& a, const auto& b) {
    bool a_is_cpu = a->type == CL_DEVICE_TYPE_CPU, b_is_cpu = b->type == CL_DEVICE_TYPE_CPU;
    return std::tie(a_is_cpu, a->platform) < std::tie(b_is_cpu, b->platform);
  });
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
  return devices;
}

const std::vector<std::unique_ptr<Device>>& Devices() {
  static std::mutex mutex;
  // Never freed, as the driver.
  static const std::vector<std::unique_ptr<Device>>* devices = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (devices == nullptr) {
    devices = new std::vector<std::unique_ptr<Device>>(FindDevices());
  }
  return *devices;
}

}  // namespace

Device::Device(const Driver& driver, cl_platform_id platform_id, cl_device_id id)
    : driver(driver),
      id(id),
      name(Text(driver.clGetDeviceInfo, id, CL_DEVICE_NAME)),
      platform(Text(driver.clGetPlatformInfo, platform_id, CL_PLATFORM_NAME)),
      version(Text(driver.clGetDeviceInfo, id, CL_DEVICE_VERSION)),
      driver_version(Text(driver.clGetDeviceInfo, id, CL_DRIVER_VERSION)),
      extensions(Text(driver.clGetDeviceInfo, id, CL_DEVICE_EXTENSIONS)),
      type(DeviceNumber<cl_bitfield>(driver, id, CL_DEVICE_TYPE) & ~cl_bitfield{1}),
      limits(ReadLimits(driver, id)) {}

void Device::Open() {
  cl_int status = CL_SUCCESS;
  context_ = driver.clCreateContext(nullptr, 1, &id, nullptr, nullptr, &status);
  Check(status, "clCreateContext");
  plain_ = driver.clCreateCommandQueue(context_, id, 0, &status);
  Check(status, "clCreateCommandQueue");
}

cl_context Device::context() {
  CheckNotForked();
  std::call_once(opened_, [this] { Open(); });
  return context_;
}

cl_command_queue Device::queue() {
  context();
  if (!profiling_.load(std::memory_order_acquire)) return plain_;
  std::lock_guard<std::mutex> lock(profile_mutex_);
  return profile_.timers > 0 ? profile_.queue : plain_;
}

void Device::Synchronize() { Check(driver.clFinish(queue()), "waiting for the device (clFinish)"); }

void Device::Enqueue(cl_kernel kernel, cl_uint dimensions, const size_t* global,
                     const size_t* local) {
  auto enqueue = [&](cl_command_queue queue, cl_event* event) {
    Check(driver.clEnqueueNDRangeKernel(queue, kernel, dimensions, nullptr, global, local, 0,
                                        nullptr, event),
          "clEnqueueNDRangeKernel");
  };
  if (!profiling_.load(std::memory_order_acquire)) return enqueue(plain_, nullptr);
  std::lock_guard<std::mutex> lock(profile_mutex_);
  if (profile_.timers == 0) return enqueue(plain_, nullptr);
  cl_event event = nullptr;
  enqueue(profile_.queue, &event);
  if (profile_.first == nullptr) {
    profile_.first = event;
    return;
  }
  if (profile_.last != nullptr) driver.clReleaseEvent(profile_.last);
  profile_.last = event;
}

void Device::StartTimer() {
  Synchronize();
  std::lock_guard<std::mutex> lock(profile_mutex_);
  if (profile_.queue == nullptr) {
    cl_int status = CL_SUCCESS;
    profile_.queue = driver.clCreateCommandQueue(context_, id, CL_QUEUE_PROFILING_ENABLE, &status);
    Check(status, "clCreateCommandQueue with profiling");
  }
  ++profile_.timers;
  DropEvents();
  profiling_.store(true, std::memory_order_release);
}

int64_t Device::StopTimer() {
  Synchronize();
  std::lock_guard<std::mutex> lock(profile_mutex_);
  int64_t elapsed = -1;
  if (profile_.first != nullptr) {
    cl_event last = profile_.last != nullptr ? profile_.last : profile_.first;
    cl_ulong start = 0, end = 0;
    bool told = driver.clGetEventProfilingInfo(profile_.first, CL_PROFILING_COMMAND_START,
                                               sizeof(start), &start, nullptr) == CL_SUCCESS &&
                driver.clGetEventProfilingInfo(last, CL_PROFILING_COMMAND_END, sizeof(end), &end,
                                               nullptr) == CL_SUCCESS;
    if (told && end > start) elapsed = static_cast<int64_t>(end - start);
  }
  if (--profile_.timers == 0) {
    DropEvents();
    profiling_.store(false, std::memory_order_release);
  }
  return elapsed;
}

void Device::DropEvents() {
  for (cl_event* event : {&profile_.first, &profile_.last}) {
    if (*event != nullptr) driver.clReleaseEvent(*event);
    *event = nullptr;
  }
}

size_t DeviceCount() { return Devices().size(); }

Device& GetDevice(int number) {
  const auto& devices = Devices();
  if (number >= 0 && static_cast<size_t>(number) < devices.size()) return *devices[number];
  std::string known;
  for (size_t i = 0; i < devices.size(); ++i) {
    known += "\n  opencl:" + std::to_string(i) + " " + devices[i]->name + " (" +
             devices[i]->platform + ")";
  }
  TVM_FFI_THROW(RuntimeError) << "there is no device opencl:" << number << "; there are:" << known;
  TVM_FFI_UNREACHABLE();
}

bool WasForked() { return forked.load(std::memory_order_relaxed); }

void CheckNotForked() {
  if (!WasForked()) return;
  TVM_FFI_THROW(RuntimeError)
      << "OpenCL was used in this process' parent before the fork, which no driver survives; start "
         "worker processes before the first use of an OpenCL device, or with the method 'spawn'";
}

}  // namespace opencl
}  // namespace tvm_eff
