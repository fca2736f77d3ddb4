#include "timer.h"

namespace tvm_eff {
namespace opencl {

OpenCLTimer::~OpenCLTimer() {
  if (!running_) return;
  try {
    device_->StopTimer();
  } catch (...) {
    // What was timed has thrown already, and that is what matters.
  }
}

void OpenCLTimer::Start() {
  device_->StartTimer();
  running_ = true;
  started_ = Clock::now();
}

void OpenCLTimer::Stop() {
  device_->Synchronize();
  const auto by_host =
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started_).count();
  running_ = false;
  elapsed_ = device_->StopTimer();
  // Copies alone, or a driver that keeps no times.
  if (elapsed_ < 0) elapsed_ = by_host;
}

int64_t OpenCLTimer::SyncAndGetElapsedNanos() { return elapsed_; }

}  // namespace opencl
}  // namespace tvm_eff
