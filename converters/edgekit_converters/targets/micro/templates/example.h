// @name: one sample as it goes in, and what @said_by answered on a PC.
// A check for the board: leave it out once it was made.

#ifndef @{guard_example}
#define @{guard_example}

#include <cstdint>

namespace @id {

@constants

}  // namespace @id

#endif  // @{guard_example}
