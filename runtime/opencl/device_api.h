// TVM's view of the OpenCL devices: memory, copies, synchronisation, attributes.
#ifndef TVM_EFF_OPENCL_DEVICE_API_H_
#define TVM_EFF_OPENCL_DEVICE_API_H_

#include <tvm/runtime/device_api.h>

#include <string>

namespace tvm_eff {
namespace opencl {

class OpenCLDeviceAPI final : public tvm::runtime::DeviceAPI {
 public:
  // Drivers' threads outlive static objects, so it is never destroyed.
  static OpenCLDeviceAPI* Global();

  void SetDevice(tvm::Device device) final;
  void GetAttr(tvm::Device device, tvm::runtime::DeviceAttrKind kind, tvm::ffi::Any* value) final;
  void GetTargetProperty(tvm::Device device, const std::string& property,
                         tvm::ffi::Any* value) final;
  using DeviceAPI::AllocDataSpace;
  void* AllocDataSpace(tvm::Device device, size_t size, size_t alignment, DLDataType type) final;
  void FreeDataSpace(tvm::Device device, void* data) final;
  void StreamSync(tvm::Device device, TVMStreamHandle stream) final;

  // Kernels that no thread has chosen a device for run on this thread's: opencl:0 at first.
  static int CurrentDevice();

 protected:
  using DeviceAPI::CopyDataFromTo;
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset,
                      size_t size, tvm::Device from_device, tvm::Device to_device,
                      DLDataType type, TVMStreamHandle stream) final;
};

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_DEVICE_API_H_
