#ifndef TFLM_STUB_ALLOCATOR_H_
#define TFLM_STUB_ALLOCATOR_H_

#include "tensorflow/lite/micro/stub.h"

TFLM_STUB_BEGIN
class MicroAllocator {
 public:
  static MicroAllocator* Create(std::uint8_t* arena, std::size_t size) {
    static MicroAllocator allocator;
    tflm_stub::Report("arena " + std::to_string(size));
    tflm_stub::Report("arena_alignment " + std::to_string(reinterpret_cast<std::uintptr_t>(arena) % 16));
    return &allocator;
  }
};
TFLM_STUB_END

#endif  // TFLM_STUB_ALLOCATOR_H_
