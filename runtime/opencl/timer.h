// TVM's timer for OpenCL devices: by the device's own clock, from its events.
#ifndef TVM_EFF_OPENCL_TIMER_H_
#define TVM_EFF_OPENCL_TIMER_H_

#include <tvm/runtime/timer.h>

#include <chrono>

#include "device.h"

namespace tvm_eff {
namespace opencl {

class OpenCLTimer final : public tvm::runtime::TimerNode {
 public:
  explicit OpenCLTimer(Device* device) : device_(device) {}
  ~OpenCLTimer() override;

  void Start() final;
  void Stop() final;
  int64_t SyncAndGetElapsedNanos() final;

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("tvm_eff.OpenCLTimer", OpenCLTimer, tvm::runtime::TimerNode);

 private:
  using Clock = std::chrono::steady_clock;

  Device* device_;
  bool running_ = false;
  Clock::time_point started_;
  int64_t elapsed_ = 0;
};

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_TIMER_H_
