// @name on TensorFlow Lite Micro: one inference. Made by edgekit as a beginning: this file is yours to change.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>

@{includes}#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

@{example_include}#include "@{stem}_model.h"

// TFLM's classes are in tflite, and since 2026 in tflite::micro: found in either.
namespace tflite {
namespace micro {}
}  // namespace tflite
using namespace tflite;         // NOLINT
using namespace tflite::micro;  // NOLINT

namespace {

alignas(16) std::uint8_t arena[@id::kArenaBytes];
MicroInterpreter* interpreter = nullptr;

// kTfLiteOk is 0.
template <typename Status>
bool Succeeded(Status status) {
  return static_cast<int>(status) == 0;
}

// What this model needs and nothing else: each operator left out is code that is not linked.
template <typename Resolver>
bool AddOperators(Resolver& resolver) {
@add_operators
  return true;
}

// Call once; afterwards the interpreter is ready.
bool Start() {
  const auto* model = GetModel(@id::kModel);
  if (model->version() != 3) return false;  // TFLITE_SCHEMA_VERSION
  static MicroMutableOpResolver<@id::kOperators> resolver;
  if (!AddOperators(resolver)) return false;
@interpreter
  interpreter = &ready;
  return Succeeded(interpreter->AllocateTensors());
}
@quantize
@inputs
@outputs
@example}  // namespace

int main() {
  if (!Start()) {
    std::printf("the model does not start: see the arena's size in @{stem}_model.h\n");
    return 1;
  }
@run_example@write_inputs
  if (!Succeeded(interpreter->Invoke())) {
    std::printf("the inference failed\n");
    return 1;
  }
@print_outputs
  return 0;
}
