#ifndef TFLM_STUB_VARIABLES_H_
#define TFLM_STUB_VARIABLES_H_

#include "tensorflow/lite/micro/micro_allocator.h"

TFLM_STUB_BEGIN
class MicroResourceVariables {
 public:
  static MicroResourceVariables* Create(MicroAllocator* allocator, int count) {
    static_cast<void>(allocator);
    tflm_stub::Report("variables " + std::to_string(count));
    static MicroResourceVariables variables;
    return &variables;
  }
};
TFLM_STUB_END

#endif  // TFLM_STUB_VARIABLES_H_
