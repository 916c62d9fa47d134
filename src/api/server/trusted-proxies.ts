import { BlockList, isIP } from 'node:net';
import { BuilderdError } from '../../core/errors.ts';

/** Tells whether an address is one of the operator's proxies. Throws `config.invalid`. */
export function proxyTest(entries: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/', 2);
    const version = isIP(address);
    const family = version === 6 ? 'ipv6' : 'ipv4';
    const most = version === 6 ? 128 : 32;
    const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
    if (version === 0 || !(prefix >= 0 && prefix <= most)) {
      throw new BuilderdError(
        'config.invalid',
        `Cannot use trusted proxy ${JSON.stringify(entry)}: want an address or CIDR such as 10.0.0.0/8`,
      );
    }
    list.addSubnet(address, prefix, family);
  }
  return (address) => {
    const version = isIP(address);
    return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4');
  };
}
