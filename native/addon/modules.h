/* One function per C file: what it adds to the addon's exports. */
#ifndef BUILDERD_MODULES_H
#define BUILDERD_MODULES_H
#include <node_api.h>

void init_layer_stream(napi_env env, napi_value exports);
void init_digest(napi_env env, napi_value exports);
void init_block_write(napi_env env, napi_value exports);
void init_xattr(napi_env env, napi_value exports);
void init_service(napi_env env, napi_value exports);

#endif
