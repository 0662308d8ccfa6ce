// @name: @model_bytes bytes. Made by edgekit; make it again instead of changing it.

#include "@{stem}_model.h"

namespace @id {

alignas(16) const unsigned char kModel[] = {
@bytes
};
static_assert(sizeof(kModel) == kModelBytes, "the array and its length belong together");
@labels
}  // namespace @id
