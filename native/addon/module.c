#include "async.h"
#include "modules.h"

NAPI_MODULE_INIT() {
  init_layer_stream(env, exports);
  init_digest(env, exports);
  init_block_write(env, exports);
  init_xattr(env, exports);
  init_service(env, exports);
  return exports;
}
