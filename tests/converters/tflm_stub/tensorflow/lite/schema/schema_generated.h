#ifndef TFLM_STUB_SCHEMA_H_
#define TFLM_STUB_SCHEMA_H_

#include "tensorflow/lite/micro/stub.h"

namespace tflite {
class Model {
 public:
  std::uint32_t version() const { return 3; }
};
inline const Model* GetModel(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  tflm_stub::Report("alignment " + std::to_string(address % 16));
  const auto size = std::strtoul(std::getenv("STUB_MODEL_BYTES"), nullptr, 10);
  std::ofstream(std::getenv("STUB_MODEL"), std::ios::binary).write(static_cast<const char*>(data), static_cast<long>(size));
  static Model model;
  return &model;
}
}  // namespace tflite

#endif  // TFLM_STUB_SCHEMA_H_
