// A CUDA device that computes nothing, for fake tensors: a build of torch for the CPU has none to ask
// for its streams and events when gradients run. Loaded before torch.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace at {
struct NoHooks : CUDAHooksInterface {
  explicit NoHooks(CUDAHooksArgs) {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, NoHooks)
}  // namespace at

namespace c10 {
const Device ONLY(DeviceType::CUDA, 0);
const Stream DEFAULT(Stream::DEFAULT, ONLY);

struct NoGuard : impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device getDevice() const override { return ONLY; }
  Device exchangeDevice(Device) const override { return ONLY; }
  Stream getStream(Device) const noexcept override { return DEFAULT; }
  Stream exchangeStream(Stream) const noexcept override { return DEFAULT; }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, NoGuard)
}  // namespace c10
