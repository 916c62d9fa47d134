import { BuildSpecSchema } from '../../builds/build-spec.ts';
import type { ApiApp } from '../api-options.ts';
import { ArtifactSchema, BuildSchema } from './build-schema.ts';
import { ProblemSchema } from './field-schemas.ts';
import { EventSchema, WebhookSchema } from './event-schema.ts';
import {
  AuditSchema,
  CredentialSchema,
  QuotasSchema,
  TenantSchema,
  TokenSchema,
  UsageDaySchema,
  UsageSchema,
  ViolationSchema,
} from './tenant-schema.ts';

/** The named schemas: routes refer to them, and the OpenAPI document lists them. */
export function addSchemas(app: ApiApp): void {
  for (const schema of [
    ProblemSchema,
    BuildSpecSchema,
    ArtifactSchema,
    BuildSchema,
    TenantSchema,
    QuotasSchema,
    UsageSchema,
    UsageDaySchema,
    ViolationSchema,
    TokenSchema,
    CredentialSchema,
    EventSchema,
    WebhookSchema,
    AuditSchema,
  ]) {
    app.addSchema(schema);
  }
}
