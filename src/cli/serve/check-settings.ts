import { isIP } from 'node:net';
import { IDS_PER_POOL, RANGES_PER_POOL } from '../../builds/worker/id-pool.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Config, Settings } from '../config.ts';

/** Settings that contradict each other, or ask for what is not built. Throws `config.invalid` with all of them. */
export function checkSettings(config: Config): void {
  const faults = findConflicts(config);
  if (faults.length === 0) return;
  throw new BuilderdError('config.invalid', `Cannot use these settings: ${faults.join('; ')}`);
}

export function findConflicts({ settings, given }: Config): string[] {
  const faults: string[] = [];
  const fault = (wrong: boolean, text: string): void => {
    if (wrong) faults.push(text);
  };
  const s = settings;
  fault(s.TLS_MODE === 'spiffe', 'TLS_MODE spiffe is not built; want disabled or file');
  fault(
    s.TLS_MODE === 'file' && (s.TLS_CERT_FILE === '' || s.TLS_KEY_FILE === ''),
    'TLS_MODE file needs TLS_CERT_FILE and TLS_KEY_FILE',
  );
  fault(
    s.TLS_MODE === 'disabled' &&
      (['TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CA_FILE'] as const).some((name) => given.has(name)),
    'TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE have no effect without TLS_MODE file',
  );
  fault(
    s.STORAGE_BACKEND === 'gcs',
    'STORAGE_BACKEND gcs is not built; its S3 interface is: use s3',
  );
  fault(
    s.STORAGE_BACKEND === 's3' && (s.S3_BUCKET === '' || s.S3_ENDPOINT === ''),
    'STORAGE_BACKEND s3 needs S3_ENDPOINT and S3_BUCKET',
  );
  fault(
    s.DATABASE_TYPE === 'sqlite' && (s.DATABASE_URL !== '' || given.has('DATABASE_HOST')),
    'DATABASE_URL and DATABASE_HOST have no effect with DATABASE_TYPE sqlite',
  );
  fault(s.ASSETMANAGER_ENABLED, 'ASSETMANAGER_ENABLED is not built');
  fault(
    s.AUTH_MODE === 'development' && !isLoopback(listenHost(settings, given)),
    'AUTH_MODE development believes every caller: HOST must be a loopback address',
  );
  fault(
    !wantsIsolation(settings, given) && s.AUTH_MODE !== 'development',
    'ENABLE_ISOLATION false converts the images of all tenants in the process that holds their keys; it needs AUTH_MODE development',
  );
  const { host, port } = metricsAddress(settings, given);
  fault(
    s.PORT !== 0 && port === s.PORT && (host === listenHost(settings, given) || isAny(host)),
    'METRICS_PORT and PORT are the same',
  );
  fault(
    s.DOCKER_INSECURE_REGISTRIES.length > 0 || s.DOCKER_REGISTRY_MIRROR !== '',
    'DOCKER_INSECURE_REGISTRIES and DOCKER_REGISTRY_MIRROR are not built; write a hosts.toml in /etc/containerd/certs.d',
  );
  fault(
    s.FAILPOINTS !== '' && !s.TEST_MODE,
    'FAILPOINTS break the service; they need TEST_MODE true',
  );
  fault(
    s.STORAGE_BACKEND !== 's3' && given.has('S3_BUCKET'),
    'S3_BUCKET has no effect without STORAGE_BACKEND s3',
  );
  fault(
    s.WORKER_ID_BASE % IDS_PER_POOL !== 0,
    `WORKER_ID_BASE: want a multiple of ${IDS_PER_POOL}`,
  );
  fault(
    s.MAX_CONCURRENT_BUILDS > RANGES_PER_POOL,
    `MAX_CONCURRENT_BUILDS: want ${RANGES_PER_POOL} at most`,
  );
  fault(
    [s.MASTER_KEY, s.MASTER_KEY_FILE, s.MASTER_KEY_COMMAND].filter((each) => each !== '').length >
      1,
    'MASTER_KEY, MASTER_KEY_FILE and MASTER_KEY_COMMAND: want one of them at most',
  );
  return faults;
}

/** HOST, or its older name. */
export function listenHost(settings: Settings, given: ReadonlySet<string>): string {
  return given.has('HOST') || settings.ADDRESS === '' ? settings.HOST : settings.ADDRESS;
}

/** ENABLE_ISOLATION, or its older name. */
export function wantsIsolation(settings: Settings, given: ReadonlySet<string>): boolean {
  return given.has('ENABLE_ISOLATION') || !given.has('TENANT_ISOLATION_ENABLED')
    ? settings.ENABLE_ISOLATION
    : settings.TENANT_ISOLATION_ENABLED;
}

/** METRICS_HOST and METRICS_PORT, or their older names. */
export function metricsAddress(
  settings: Settings,
  given: ReadonlySet<string>,
): { readonly host: string; readonly port: number } {
  const older = settings.OTEL_PROMETHEUS_INTERFACE;
  const olderPort = settings.OTEL_PROMETHEUS_PORT;
  return {
    host: given.has('METRICS_HOST') || older === '' ? settings.METRICS_HOST : older,
    port: given.has('METRICS_PORT') || olderPort === 0 ? settings.METRICS_PORT : olderPort,
  };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function isAny(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
