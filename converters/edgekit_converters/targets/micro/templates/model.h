// @name: a TensorFlow Lite model for TensorFlow Lite Micro. Made by edgekit; make it again instead of changing it.
// SHA-256 of the .tflite: @sha256

#ifndef @guard
#define @guard

#include <cstddef>
#include <cstdint>

namespace @id {

// The .tflite byte for byte, in read-only memory. Its tables and weights are read in place, which needs the alignment.
alignas(16) extern const unsigned char kModel[];
constexpr std::size_t kModelBytes = @model_bytes;

// Tensor arena. @needed bytes is the smallest with which @said_by
// initialises and runs this model on a 64-bit machine with the reference kernels: after an inference @head of it hold
// tensors (head) and @tail what stays (tail)@planning.
// A 32-bit chip needs less for pointers. Kernels made for a chip (CMSIS-NN, Xtensa) may ask for buffers of their own: where
// AllocateTensors() fails with "Failed to allocate", raise the headroom; where it works, interpreter->arena_used_bytes() says
// what was used.
constexpr std::size_t kArenaNeededBytes = @needed_bytes;
constexpr std::size_t kArenaBytes = @arena_bytes;  // @needed_bytes * @factor, rounded up to 16

// Kinds of operators: @operators.
constexpr unsigned int kOperators = @operator_count;

@tensors
@labels
}  // namespace @id

#endif  // @guard
