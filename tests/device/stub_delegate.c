/* A delegate library without a device, for the tests of edgekit_device.delegates and edgekit_device.trial.
 *
 * It implements TFLite's external delegate interface (external_delegate_interface.h): two functions, and a TfLiteDelegate.
 * The structures below are those of tensorflow/lite/core/c/common.h as far as they are used here. What it does is said by
 * the option "behave":
 *
 *   claims     takes over the operator edgetpu-custom-op and writes 7 into every byte of its outputs (the default)
 *   idle       takes over nothing
 *   null       gives no delegate and no reason          refuse     gives no delegate and says why
 *   crash-create, crash-prepare, crash-invoke           a segmentation fault there
 *   hang       never returns from being created
 *   fail-prepare                                        refuses the graph
 *
 * STUB_LOG names a file to which every creation appends its options and its process id.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef STUB_WITHOUT_SYMBOLS
int nothing_of_a_delegate(void) { return 0; }
#else

typedef enum { kOk = 0, kError = 1 } Status;
typedef struct { int size; int data[]; } IntArray;
struct Context;
struct Delegate;

typedef struct {
  int type;
  void* data;
  IntArray* dims;
  struct { float scale; int32_t zero_point; } params;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  struct Delegate* delegate;
  int buffer_handle;
  char data_is_stale, is_variable;
  struct { int type; void* params; } quantization;
  void* sparsity;
  const IntArray* dims_signature;
} Tensor;

typedef struct { IntArray* inputs; IntArray* outputs; } Node; /* its first fields */

typedef struct {
  void* (*init)(struct Context*, const char*, size_t);
  void (*free)(struct Context*, void*);
  Status (*prepare)(struct Context*, Node*);
  Status (*invoke)(struct Context*, Node*);
  const char* (*profiling_string)(const struct Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
} Registration;

typedef struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(struct Context*, IntArray**);
  Tensor* tensors;
  void* impl;
  Status (*ResizeTensor)(struct Context*, Tensor*, IntArray*);
  void (*ReportError)(struct Context*, const char*, ...);
  Status (*AddTensors)(struct Context*, int, int*);
  Status (*GetNodeAndRegistration)(struct Context*, int, Node**, Registration**);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(struct Context*, Registration, const IntArray*, struct Delegate*);
} Context;

typedef struct Delegate {
  void* data;
  Status (*Prepare)(Context*, struct Delegate*);
  void* CopyFromBufferHandle;
  void* CopyToBufferHandle;
  void* FreeBufferHandle;
  int64_t flags;
  void* opaque_delegate_builder;
} Delegate;

static char behaviour[64];

static int does(const char* what) { return strcmp(behaviour, what) == 0; }

static volatile uintptr_t nowhere = 8; /* volatile: a compiler that sees a null pointer takes the branch to it away */

static void crash(void) { *(volatile int*)nowhere = 1; }

static Status kernel_prepare(Context* context, Node* node) {
  (void)context;
  (void)node;
  return kOk;
}

static Status kernel_invoke(Context* context, Node* node) {
  if (does("crash-invoke")) crash();
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor* output = &context->tensors[node->outputs->data[i]];
    memset(output->data, 7, output->bytes);
  }
  return kOk;
}

static Status prepare(Context* context, Delegate* delegate) {
  IntArray* plan;
  if (does("crash-prepare")) crash();
  if (does("fail-prepare")) {
    context->ReportError(context, "Unsupported data type in custom op handler: 9");
    return kError;
  }
  if (does("idle") || context->GetExecutionPlan(context, &plan) != kOk) return kOk;
  IntArray* mine = calloc(1, sizeof(IntArray) + (size_t)plan->size * sizeof(int));
  for (int i = 0; i < plan->size; i++) {
    Node* node;
    Registration* registration;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) != kOk) continue;
    if (registration->custom_name && strcmp(registration->custom_name, "edgetpu-custom-op") == 0)
      mine->data[mine->size++] = plan->data[i];
  }
  Registration kernel = {0};
  kernel.prepare = kernel_prepare;
  kernel.invoke = kernel_invoke;
  kernel.custom_name = "StubDelegate";
  kernel.version = 1;
  Status status = kOk;
  if (mine->size) status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, mine, delegate);
  free(mine);
  return status;
}

const char* edgetpu_version(void) { return "BuildLabel(stub), RuntimeVersion(14)"; }

Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  strcpy(behaviour, getenv("STUB_BEHAVE") ? getenv("STUB_BEHAVE") : "claims");
  FILE* log = getenv("STUB_LOG") ? fopen(getenv("STUB_LOG"), "a") : NULL;
  for (size_t i = 0; i < count; i++) {
    if (strcmp(keys[i], "behave") == 0) snprintf(behaviour, sizeof behaviour, "%s", values[i]);
    if (log) fprintf(log, "%s=%s ", keys[i], values[i]);
  }
  if (log) {
    fprintf(log, "pid=%d\n", (int)getpid());
    fclose(log);
  }
  if (does("crash-create")) crash();
  if (does("hang")) for (;;) pause();
  if (does("refuse")) report("the stub has no device today");
  if (does("refuse") || does("null")) return NULL;
  Delegate* delegate = calloc(1, sizeof(Delegate));
  delegate->Prepare = prepare;
  delegate->flags = 1; /* kTfLiteDelegateFlagsAllowDynamicTensors: without it the graph, custom operator and all, is prepared first */
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }
#endif
