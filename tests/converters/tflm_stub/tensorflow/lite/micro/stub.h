// What a program sees of TensorFlow Lite Micro, without TFLM: the signatures of the classes an export uses, and a model that
// writes down what it was given. STUB_REPORT names the file for that, STUB_OUTPUTS a folder with the outputs' bytes.
// With TFLM_STUB_NEW the classes are in tflite::micro, as in TFLM since 2026; without it in tflite, as before.
#ifndef TFLM_STUB_H_
#define TFLM_STUB_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#ifdef TFLM_STUB_NEW
#define TFLM_STUB_BEGIN namespace tflite { namespace micro {
#define TFLM_STUB_END } }
#define TFLM_STUB_C_BEGIN namespace tflite { namespace micro {
#define TFLM_STUB_C_END } }
#else
#define TFLM_STUB_BEGIN namespace tflite {
#define TFLM_STUB_END }
#define TFLM_STUB_C_BEGIN
#define TFLM_STUB_C_END
#endif

namespace tflm_stub {
inline void Report(const std::string& line) {
  std::ofstream(std::getenv("STUB_REPORT"), std::ios::app) << line << "\n";
}
inline std::string Hex(const std::uint8_t* data, std::size_t size) {
  static const char* const digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += {digits[data[i] >> 4], digits[data[i] & 15]};
  return text;
}
}  // namespace tflm_stub

TFLM_STUB_C_BEGIN
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
union TfLitePtrUnion {
  std::int32_t* i32;
  std::int64_t* i64;
  float* f;
  char* raw;
  std::uint8_t* uint8;
  bool* b;
  std::int16_t* i16;
  std::int8_t* int8;
  void* data;
};
struct TfLiteTensor {
  TfLitePtrUnion data;
  std::size_t bytes;
};
TFLM_STUB_C_END

#endif  // TFLM_STUB_H_
