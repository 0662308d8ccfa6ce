#ifndef TFLM_STUB_RESOLVER_H_
#define TFLM_STUB_RESOLVER_H_

#include "tensorflow/lite/micro/stub.h"

// The members Add… of TFLM's MicroMutableOpResolver.
#define TFLM_STUB_OPERATORS(X) \
  X(Abs) X(Add) X(AddN) X(ArgMax) X(ArgMin) X(AssignVariable) X(AveragePool2D) X(BasicClassifier) X(BatchMatMul) X(BatchToSpaceNd) \
  X(BroadcastArgs) X(BroadcastTo) X(CallOnce) X(Cast) X(Ceil) X(CircularBuffer) X(Concatenation) X(Conv2D) X(Cos) \
  X(CumSum) X(Decode) X(Delay) X(DepthToSpace) X(DepthwiseConv2D) X(Dequantize) X(DetectionPostprocess) X(Div) \
  X(DynamicUpdateSlice) X(Elu) X(EmbeddingLookup) X(Energy) X(Equal) X(EthosU) X(Exp) X(ExpandDims) X(FftAutoScale) \
  X(Fill) X(FilterBank) X(FilterBankLog) X(FilterBankSpectralSubtraction) X(FilterBankSquareRoot) X(Floor) X(FloorDiv) \
  X(FloorMod) X(Framer) X(FullyConnected) X(Gather) X(GatherNd) X(Greater) X(GreaterEqual) X(HardSwish) X(If) X(Irfft) \
  X(L2Normalization) X(L2Pool2D) X(LeakyRelu) X(Less) X(LessEqual) X(Log) X(LogSoftmax) X(LogicalAnd) X(LogicalNot) \
  X(LogicalOr) X(Logistic) X(MaxPool2D) X(Maximum) X(Mean) X(Minimum) X(MirrorPad) X(Mul) X(Neg) X(NotEqual) \
  X(OverlapAdd) X(PCAN) X(Pack) X(Pad) X(PadV2) X(Prelu) X(Quantize) X(ReadVariable) X(ReduceAll) X(ReduceMax) \
  X(ReduceMin) X(Relu) X(Relu6) X(Reshape) X(ResizeBilinear) X(ResizeNearestNeighbor) X(ReverseV2) X(Rfft) X(Round) \
  X(Rsqrt) X(SelectV2) X(Shape) X(Sin) X(Slice) X(Softmax) X(SpaceToBatchNd) X(SpaceToDepth) X(Split) X(SplitV) X(Sqrt) \
  X(Square) X(SquaredDifference) X(Squeeze) X(Stacker) X(StridedSlice) X(Sub) X(Sum) X(Svdf) X(Tanh) X(Transpose) \
  X(TransposeConv) X(UnidirectionalSequenceLSTM) X(Unpack) X(VarHandle) X(While) X(Window) X(ZerosLike)

TFLM_STUB_BEGIN
class MicroOpResolver {
 public:
  virtual ~MicroOpResolver() = default;
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define TFLM_STUB_ADD(Name) \
  TfLiteStatus Add##Name() { return Register("Add" #Name); }
  TFLM_STUB_OPERATORS(TFLM_STUB_ADD)
#undef TFLM_STUB_ADD

 private:
  TfLiteStatus Register(const char* name) {
    if (registered_ == tOpCount) return kTfLiteError;
    ++registered_;
    tflm_stub::Report(std::string("operator ") + name);
    return kTfLiteOk;
  }
  unsigned int registered_ = 0;
};
TFLM_STUB_END

#endif  // TFLM_STUB_RESOLVER_H_
