/**
 * Names that end in `.localhost` are this machine, whatever a resolver says of them (RFC 6761, section 6.3): so a store on loopback
 * can be addressed with its bucket in the host name. All other names are looked up as usual.
 */
import { lookup, type LookupAddress, type LookupAllOptions, type LookupOneOptions, type LookupOptions } from 'node:dns';

type Callback = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;

const ADDRESS = '127.0.0.1';

/** As `dns.lookup`, for the option `lookup` of sockets. */
export function lookupHost(host: string, options: LookupOptions, callback: Callback): void {
  if (!/\.localhost\.?$/i.test(host)) {
    lookup(host, options as LookupOneOptions & LookupAllOptions, callback as never);
    return;
  }
  process.nextTick(() => {
    if (options.all) callback(null, [{ address: ADDRESS, family: 4 }]);
    else callback(null, ADDRESS, 4);
  });
}
