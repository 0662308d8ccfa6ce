#ifndef TFLM_STUB_INTERPRETER_H_
#define TFLM_STUB_INTERPRETER_H_

#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/schema/schema_generated.h"

TFLM_STUB_BEGIN
class MicroProfilerInterface;

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, std::uint8_t* arena, std::size_t size,
                   MicroResourceVariables* variables = nullptr, MicroProfilerInterface* profiler = nullptr,
                   bool preserve_all_tensors = false)
      : MicroInterpreter(model, resolver, MicroAllocator::Create(arena, size), variables, profiler) {
    static_cast<void>(preserve_all_tensors);
  }
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, MicroAllocator* allocator,
                   MicroResourceVariables* variables = nullptr, MicroProfilerInterface* profiler = nullptr) {
    static_cast<void>(model);
    static_cast<void>(resolver);
    static_cast<void>(allocator);
    static_cast<void>(variables);
    static_cast<void>(profiler);
  }

  TfLiteStatus AllocateTensors() {
    allocated_ = std::getenv("STUB_FAILS") == nullptr;
    return allocated_ ? kTfLiteOk : kTfLiteError;
  }
  TfLiteStatus Invoke() {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      tflm_stub::Report("input " + std::to_string(i) + " " + tflm_stub::Hex(inputs_[i].bytes.data(), kShown));
    }
    return kTfLiteOk;
  }
  TfLiteStatus Reset() { return kTfLiteOk; }
  TfLiteTensor* input(std::size_t index) { return &At(inputs_, index).tensor; }
  TfLiteTensor* output(std::size_t index) {
    Buffer& found = At(outputs_, index);
    std::ifstream file(std::string(std::getenv("STUB_OUTPUTS")) + "/" + std::to_string(index), std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    for (std::size_t i = 0; i < bytes.size(); ++i) found.bytes[i] = static_cast<std::uint8_t>(bytes[i]);
    return &found.tensor;
  }

 private:
  static constexpr std::size_t kMost = 1 << 20, kShown = 16;
  struct Buffer {
    std::vector<std::uint8_t> bytes;
    TfLiteTensor tensor;
  };
  static Buffer& At(std::vector<Buffer>& buffers, std::size_t index) {
    while (buffers.size() <= index) buffers.push_back({std::vector<std::uint8_t>(kMost, 0xAA), {}});
    Buffer& buffer = buffers[index];
    buffer.tensor.bytes = kMost;
    buffer.tensor.data.data = buffer.bytes.data();
    return buffer;
  }
  std::vector<Buffer> inputs_, outputs_;
  bool allocated_ = false;
};
TFLM_STUB_END

#endif  // TFLM_STUB_INTERPRETER_H_
