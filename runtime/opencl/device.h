// The OpenCL devices of the system with their contexts, queues and limits.
#ifndef TVM_EFF_OPENCL_DEVICE_H_
#define TVM_EFF_OPENCL_DEVICE_H_

#include <array>
#include <atomic>
#include <mutex>
#include <string>

#include "cl.h"
#include "driver.h"

namespace tvm_eff {
namespace opencl {

struct Limits {
  size_t work_group = 0;
  std::array<size_t, 3> work_items = {0, 0, 0};
  size_t allocation = 0;
  size_t alignment = 0;
  size_t global_memory = 0;
  size_t local_memory = 0;
  size_t cache = 0;
  cl_uint compute_units = 0;
  cl_uint clock_mhz = 0;
};

// What kernels are sent to while a timer runs, and what they leave for it.
struct Profile {
  int timers = 0;
  cl_command_queue queue = nullptr;
  cl_event first = nullptr;
  cl_event last = nullptr;
};

class Device {
 public:
  Device(const Driver& driver, cl_platform_id platform, cl_device_id id);
  Device(const Device&) = delete;

  cl_context context();
  cl_command_queue queue();
  // Waits until all that was enqueued has been done.
  void Synchronize();
  void Enqueue(cl_kernel kernel, cl_uint dimensions, const size_t* global, const size_t* local);

  // While at least one timer runs, kernels go to a queue that keeps times.
  void StartTimer();
  // Returns the nanoseconds from the start of the first kernel since StartTimer to the end of the
  // last one; a negative number if there was none, or the driver does not tell.
  int64_t StopTimer();

  const Driver& driver;
  const cl_device_id id;
  std::string name;
  std::string platform;
  std::string version;
  std::string driver_version;
  std::string extensions;
  cl_bitfield type = 0;
  Limits limits;
  std::atomic<size_t> allocated{0};

 private:
  void Open();
  void DropEvents();

  std::once_flag opened_;
  cl_context context_ = nullptr;
  cl_command_queue plain_ = nullptr;
  std::mutex profile_mutex_;
  std::atomic<bool> profiling_{false};
  Profile profile_;
};

// How many devices there are; throws if there is no driver.
size_t DeviceCount();
// Throws, listing the devices there are, if there is none of that number.
Device& GetDevice(int number);
// Throws if the process was forked after it had used OpenCL, which no driver survives.
void CheckNotForked();
bool WasForked();

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_DEVICE_H_
